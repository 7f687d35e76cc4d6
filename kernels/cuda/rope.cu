// Rotary position embedding in place: pairs (j, j + D/2) of every rotated head turn by their row's angles. A thread takes
// one pack of the first half and the one of the second half that belongs to it.

#include "device.cuh"

template <typename T>
DEVICE void rope(T *qkv, const float *table, const int *positions, int n, int rotated, int heads, int d, float sign) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int half = d / 2, packs = (half + WIDTH - 1) / WIDTH;
  size_t index = grid_thread(), pair = index / packs;
  if (pair >= (size_t)n * rotated) return;
  int at = (int)(index % packs) * WIDTH;
  size_t row = pair / rotated;
  T *first = qkv + (row * heads + pair % rotated) * d, *second = first + half;
  const float *cosines = table + (size_t)positions[row] * d, *sines = cosines + half;
  bool packed = is_packed(qkv, half), table_packed = is_packed(table, half) && half % WIDTH == 0;
  float a[WIDTH], b[WIDTH], cosine[WIDTH], sine[WIDTH];
  load_floats(a, first, at, half, packed);
  load_floats(b, second, at, half, packed);
  load_f32<WIDTH>(cosine, cosines, at, half, table_packed);
  load_f32<WIDTH>(sine, sines, at, half, table_packed);
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    float turned = a[i] * cosine[i] - b[i] * sine[i] * sign;
    b[i] = b[i] * cosine[i] + a[i] * sine[i] * sign;
    a[i] = turned;
  }
  store_floats(first, at, half, packed, a);
  store_floats(second, at, half, packed, b);
}

extern "C" __global__ void rope_bf16(bf16 *qkv, const float *table, const int *positions, int n, int rotated, int heads, int d, float sign) {
  rope(qkv, table, positions, n, rotated, heads, d, sign);
}
extern "C" __global__ void rope_f32(float *qkv, const float *table, const int *positions, int n, int rotated, int heads, int d, float sign) {
  rope(qkv, table, positions, n, rotated, heads, d, sign);
}
