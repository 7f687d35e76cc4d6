// The gated activation of the MLP, a warp or a block a row, a pack of each half of it a thread at a time. Memory traffic per
// element of out in bf16: forward 6 bytes, backward 10.

#include "device.cuh"

constexpr int MAX_THREADS = 1024;

DEVICE float sigmoid(float x) { return reciprocal_fast(1 + exp_fast(-x)); }

template <typename T>
DEVICE void swiglu_forward(T *out, const T *gate_up, int n, int f) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int row = block_row();
  if (row >= n) return;
  const T *gates = gate_up + (size_t)row * 2 * f, *ups = gates + f;
  T *to = out + (size_t)row * f;
  bool packed = is_packed(gate_up, f), to_packed = is_packed(out, f);
  for (int at = threadIdx.x * WIDTH; at < f; at += blockDim.x * WIDTH) {
    float gate[WIDTH], up[WIDTH];
    load_floats(gate, gates, at, f, packed);
    load_floats(up, ups, at, f, packed);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) up[i] *= gate[i] * sigmoid(gate[i]);
    store_floats(to, at, f, to_packed, up);
  }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS) swiglu_forward_bf16(bf16 *out, const bf16 *gate_up, int n, int f) {
  swiglu_forward(out, gate_up, n, f);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS) swiglu_forward_f32(float *out, const float *gate_up, int n, int f) {
  swiglu_forward(out, gate_up, n, f);
}

// dgate_up may be gate_up: a thread reads all it needs of a pack before it writes.
template <typename T>
DEVICE void swiglu_backward(T *dgate_up, const T *dout, const T *gate_up, int n, int f) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int row = block_row();
  if (row >= n) return;
  const T *gates = gate_up + (size_t)row * 2 * f, *ups = gates + f, *douts = dout + (size_t)row * f;
  T *dgates = dgate_up + (size_t)row * 2 * f, *dups = dgates + f;
  bool packed = is_packed(gate_up, f), dout_packed = is_packed(dout, f), to_packed = is_packed(dgate_up, f);
  for (int at = threadIdx.x * WIDTH; at < f; at += blockDim.x * WIDTH) {
    float gate[WIDTH], up[WIDTH], d[WIDTH];
    load_floats(gate, gates, at, f, packed);
    load_floats(up, ups, at, f, packed);
    load_floats(d, douts, at, f, dout_packed);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      float s = sigmoid(gate[i]), silu = gate[i] * s;
      gate[i] = d[i] * up[i] * (s + silu * (1 - s));
      up[i] = d[i] * silu;
    }
    store_floats(dgates, at, f, to_packed, gate);
    store_floats(dups, at, f, to_packed, up);
  }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS) swiglu_backward_bf16(bf16 *dgate_up, const bf16 *dout, const bf16 *gate_up, int n, int f) {
  swiglu_backward(dgate_up, dout, gate_up, n, f);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS) swiglu_backward_f32(float *dgate_up, const float *dout, const float *gate_up, int n, int f) {
  swiglu_backward(dgate_up, dout, gate_up, n, f);
}
