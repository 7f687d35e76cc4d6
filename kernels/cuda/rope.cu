// Rotary position embedding in place: pairs (j, j + D/2) of every rotated head turn by their row's angles. A thread takes
// one pack of the first half and the one of the second half that belongs to it, a block a row.

#include "device.cuh"

constexpr int MAX_THREADS = 1024;

template <typename T>
DEVICE void rope(T *qkv, const float *table, const int *positions, int rotated, int heads, int d, float sign) {
  begin_dependent();
  constexpr int WIDTH = Pack<T>::WIDTH;
  int half = d / 2, packs = (half + WIDTH - 1) / WIDTH;
  size_t row = blockIdx.x;
  const float *cosines = table + (size_t)positions[row] * d, *sines = cosines + half;
  bool packed = is_packed(qkv, half), table_packed = is_packed(table, half) && half % WIDTH == 0;
  for (int i = threadIdx.x; i < rotated * packs; i += blockDim.x) {
    int head = i / packs, at = (i - head * packs) * WIDTH;
    T *first = qkv + (row * heads + head) * d, *second = first + half;
    float a[WIDTH], b[WIDTH], cosine[WIDTH], sine[WIDTH];
    load_floats(a, first, at, half, packed);
    load_floats(b, second, at, half, packed);
    load_f32<WIDTH>(cosine, cosines, at, half, table_packed);
    load_f32<WIDTH>(sine, sines, at, half, table_packed);
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
      float turned = a[j] * cosine[j] - b[j] * sine[j] * sign;
      b[j] = b[j] * cosine[j] + a[j] * sine[j] * sign;
      a[j] = turned;
    }
    store_floats(first, at, half, packed, a);
    store_floats(second, at, half, packed, b);
  }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS) rope_bf16(bf16 *qkv, const float *table, const int *positions, int rotated, int heads, int d, float sign) {
  rope(qkv, table, positions, rotated, heads, d, sign);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS) rope_f32(float *qkv, const float *table, const int *positions, int rotated, int heads, int d, float sign) {
  rope(qkv, table, positions, rotated, heads, d, sign);
}
