// The gated activation of the MLP, a thread a pack. Memory traffic per element of out in bf16: forward 6 bytes, backward 10.

#include "device.cuh"

DEVICE float sigmoid(float x) { return 1 / (1 + expf(-x)); }

template <typename T>
DEVICE void swiglu_forward(T *out, const T *gate_up, int n, int f) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int packs = (f + WIDTH - 1) / WIDTH;
  size_t row = grid_thread() / packs;
  if (row >= (size_t)n) return;
  int at = (int)(grid_thread() % packs) * WIDTH;
  const T *gates = gate_up + row * 2 * f;
  bool packed = is_packed(gate_up, f);
  float gate[WIDTH], up[WIDTH];
  load_floats(gate, gates, at, f, packed);
  load_floats(up, gates + f, at, f, packed);
#pragma unroll
  for (int i = 0; i < WIDTH; i++) up[i] *= gate[i] * sigmoid(gate[i]);
  store_floats(out + row * f, at, f, is_packed(out, f), up);
}

extern "C" __global__ void swiglu_forward_bf16(bf16 *out, const bf16 *gate_up, int n, int f) { swiglu_forward(out, gate_up, n, f); }
extern "C" __global__ void swiglu_forward_f32(float *out, const float *gate_up, int n, int f) { swiglu_forward(out, gate_up, n, f); }

// dgate_up may be gate_up: a thread reads all it needs before it writes.
template <typename T>
DEVICE void swiglu_backward(T *dgate_up, const T *dout, const T *gate_up, int n, int f) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int packs = (f + WIDTH - 1) / WIDTH;
  size_t row = grid_thread() / packs;
  if (row >= (size_t)n) return;
  int at = (int)(grid_thread() % packs) * WIDTH;
  const T *gates = gate_up + row * 2 * f;
  T *dgates = dgate_up + row * 2 * f;
  bool packed = is_packed(gate_up, f), to_packed = is_packed(dgate_up, f);
  float gate[WIDTH], up[WIDTH], d[WIDTH];
  load_floats(gate, gates, at, f, packed);
  load_floats(up, gates + f, at, f, packed);
  load_floats(d, dout + row * f, at, f, is_packed(dout, f));
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    float s = sigmoid(gate[i]), silu = gate[i] * s;
    gate[i] = d[i] * up[i] * (s + silu * (1 - s));
    up[i] = d[i] * silu;
  }
  store_floats(dgates, at, f, to_packed, gate);
  store_floats(dgates + f, at, f, to_packed, up);
}

extern "C" __global__ void swiglu_backward_bf16(bf16 *dgate_up, const bf16 *dout, const bf16 *gate_up, int n, int f) {
  swiglu_backward(dgate_up, dout, gate_up, n, f);
}
extern "C" __global__ void swiglu_backward_f32(float *dgate_up, const float *dout, const float *gate_up, int n, int f) {
  swiglu_backward(dgate_up, dout, gate_up, n, f);
}
