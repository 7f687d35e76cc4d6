// The gated activation of the MLP, a warp or a block a row, PACKS packs of each half of it a thread on their way at once.
// Memory traffic per element of out in bf16: forward 6 bytes, backward 10.

#include "device.cuh"

constexpr int MAX_THREADS = 384;
constexpr int FORWARD_BLOCKS = 3, BACKWARD_BLOCKS = 2; // of a multiprocessor
constexpr int PACKS = 2;

DEVICE float sigmoid(float x) { return reciprocal_fast(1 + exp_fast(-x)); }

// Packs of a row from `first` on, `stride` apart; of those beyond the row nothing is read.
template <typename T>
DEVICE void load_packs(Pack<T> packs[PACKS], const T *row, int first, int stride, int width, bool packed) {
#pragma unroll
  for (int k = 0; k < PACKS; k++)
    if (first + k * stride < width) packs[k] = load_pack(row, first + k * stride, width, packed);
}

template <typename T>
DEVICE void swiglu_forward(T *out, const T *gate_up, int n, int f) {
  begin_dependent();
  constexpr int WIDTH = Pack<T>::WIDTH;
  int row = block_row(), stride = blockDim.x * WIDTH;
  if (row >= n) return;
  const T *gates = gate_up + (size_t)row * 2 * f, *ups = gates + f;
  T *to = out + (size_t)row * f;
  bool packed = is_packed(gate_up, f), to_packed = is_packed(out, f);
  for (int first = threadIdx.x * WIDTH; first < f; first += PACKS * stride) {
    Pack<T> gate[PACKS], up[PACKS];
    load_packs(gate, gates, first, stride, f, packed);
    load_packs(up, ups, first, stride, f, packed);
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      int at = first + k * stride;
      if (at >= f) continue;
      float product[WIDTH];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) product[i] = up[k].number(i) * (gate[k].number(i) * sigmoid(gate[k].number(i)));
      store_floats(to, at, f, to_packed, product);
    }
  }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, FORWARD_BLOCKS) swiglu_forward_bf16(bf16 *out, const bf16 *gate_up, int n, int f) {
  swiglu_forward(out, gate_up, n, f);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS, FORWARD_BLOCKS) swiglu_forward_f32(float *out, const float *gate_up, int n, int f) {
  swiglu_forward(out, gate_up, n, f);
}

// dgate_up may be gate_up: a thread reads all it needs of its packs before it writes.
template <typename T>
DEVICE void swiglu_backward(T *dgate_up, const T *dout, const T *gate_up, int n, int f) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int row = block_row(), stride = blockDim.x * WIDTH;
  if (row >= n) return;
  const T *gates = gate_up + (size_t)row * 2 * f, *ups = gates + f, *douts = dout + (size_t)row * f;
  T *dgates = dgate_up + (size_t)row * 2 * f, *dups = dgates + f;
  bool packed = is_packed(gate_up, f), dout_packed = is_packed(dout, f), to_packed = is_packed(dgate_up, f);
  for (int first = threadIdx.x * WIDTH; first < f; first += PACKS * stride) {
    Pack<T> gate[PACKS], up[PACKS], d[PACKS];
    load_packs(gate, gates, first, stride, f, packed);
    load_packs(up, ups, first, stride, f, packed);
    load_packs(d, douts, first, stride, f, dout_packed);
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      int at = first + k * stride;
      if (at >= f) continue;
      float dgate[WIDTH], dup[WIDTH];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        float s = sigmoid(gate[k].number(i)), silu = gate[k].number(i) * s;
        dgate[i] = d[k].number(i) * up[k].number(i) * (s + silu * (1 - s));
        dup[i] = d[k].number(i) * silu;
      }
      store_floats(dgates, at, f, to_packed, dgate);
      store_floats(dups, at, f, to_packed, dup);
    }
  }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, BACKWARD_BLOCKS) swiglu_backward_bf16(bf16 *dgate_up, const bf16 *dout, const bf16 *gate_up, int n, int f) {
  swiglu_backward(dgate_up, dout, gate_up, n, f);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS, BACKWARD_BLOCKS) swiglu_backward_f32(float *dgate_up, const float *dout, const float *gate_up, int n, int f) {
  swiglu_backward(dgate_up, dout, gate_up, n, f);
}
