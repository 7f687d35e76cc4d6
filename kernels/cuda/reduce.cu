// Sums in a fixed order: each block adds up every gridDim.x-th stretch, then one block adds up the blocks. Traffic: one
// read. The number of blocks depends on the count alone.

#include "device.cuh"

constexpr int WIDTH = 4;
constexpr int PACKS = 4; // of a thread, on their way at once
constexpr int THREADS = 512;

template <bool SQUARES>
DEVICE void partial_sums(double *partial, const float *x, size_t count) {
  bool packed = (uintptr_t)x % 16 == 0;
  size_t stride = (size_t)gridDim.x * blockDim.x * WIDTH;
  float sums[WIDTH] = {0};
  for (size_t first = grid_thread() * WIDTH; first < count; first += PACKS * stride) {
    Pack<float> packs[PACKS];
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      size_t at = first + k * stride;
      packs[k] = Pack<float>{{0, 0, 0, 0}};
      if (at < count) packs[k] = load_pack(x + at, 0, count - at < WIDTH ? (int)(count - at) : WIDTH, packed && count - at >= WIDTH);
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++)
#pragma unroll
      for (int i = 0; i < WIDTH; i++) sums[i] += SQUARES ? packs[k].number(i) * packs[k].number(i) : packs[k].number(i);
  }
  double sum = row_sum(((double)sums[0] + (double)sums[1]) + ((double)sums[2] + (double)sums[3]));
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) reduce_sum(double *partial, const float *x, int count) { partial_sums<false>(partial, x, count); }
extern "C" __global__ void __launch_bounds__(THREADS) reduce_sum_of_squares(double *partial, const float *x, int count) {
  partial_sums<true>(partial, x, count);
}

extern "C" __global__ void __launch_bounds__(THREADS) reduce_partial(float *out, const double *partial, int count) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = row_sum(sum);
  if (threadIdx.x == 0) out[0] = (float)sum;
}

// One warp.
extern "C" __global__ void __launch_bounds__(WARP) reduce_clip_scale(float *out, const float *squares, int count, const float *loss, float max_norm) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += WARP) sum += (double)squares[i];
  sum = warp_sum(sum);
  if (threadIdx.x > 0) return;
  float norm = (float)sqrt(sum);
  double scale = max_norm > 0 ? (double)max_norm / ((double)norm + 1e-6) : 1;
  out[0] = !is_finite(norm) || !is_finite(loss[0]) ? 0.0f : scale < 1 ? (float)scale : 1.0f;
  out[1] = norm;
}
