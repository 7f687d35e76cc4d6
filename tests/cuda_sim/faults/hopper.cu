// Products of a warpgroup, right and with one mistake each, for cuda_sim's test of them.

#include <stdint.h>

enum Mistake { NONE, NO_PROXY_FENCE, NO_BARRIER, NO_FENCE, FENCE_TOO_EARLY, NO_WAIT, WRITES_OPERAND, COPIES_TO_OPERAND, ASKEW, ONE_WARP_LESS, ENDS_EARLY, UNLIKE_WAITS };

// The permutation of 16-byte chunks that products expect, in panels of `rows` rows of 64 columns.
__device__ void store_swizzled(uint16_t *panels, int rows, int row, int column, uint16_t bits) {
  int chunk = column % 64 / 8 ^ row % 8;
  panels[(column / 64 * rows + row) * 64 + chunk * 8 + column % 8] = bits;
}

__device__ uint64_t descriptor(const void *place, int leading_bytes, int stride_bytes) {
  uint64_t address = (const unsigned char *)place - (const unsigned char *)cuda_sim::dynamic_shared();
  return address >> 4 | (uint64_t)(leading_bytes >> 4) << 16 | (uint64_t)(stride_bytes >> 4) << 32 | 1ull << 62;
}

// out (64, 64) = a (64, 64) · bᵀ (64, 64), row-major bf16, both from shared memory.
extern "C" __global__ void __launch_bounds__(128) by_columns(float *out, const uint16_t *a, const uint16_t *b, int mistake) {
  uint16_t *left = (uint16_t *)cuda_sim::dynamic_shared(), *right = left + 64 * 64;
  for (int i = threadIdx.x; i < 64 * 64; i += 128) {
    store_swizzled(left, 64, i / 64, i % 64, a[i]);
    store_swizzled(right, 64, i / 64, i % 64, b[i]);
  }
  if (mistake != NO_PROXY_FENCE) cuda_sim::fence_proxy_async();
  if (mistake != NO_BARRIER) __syncthreads();
  float sums[32] = {0};
  if (mistake != NO_FENCE) cuda_sim::wgmma_fence();
  int steps = mistake == ONE_WARP_LESS && threadIdx.x / 32 == 2 ? 3 : 4;
  for (int step = 0; step < steps; step++) {
    int from = step * 16 + (mistake == ASKEW ? 64 : 0);
    cuda_sim::wgmma_bf16(sums, 64, descriptor(left + from, 16, 1024), descriptor(right + step * 16, 16, 1024), step > 0);
  }
  cuda_sim::wgmma_commit();
  if (mistake == WRITES_OPERAND) right[threadIdx.x] = 0;
  if (mistake == COPIES_TO_OPERAND) cuda_sim::async_copy(right + threadIdx.x * 8, a, 16, 16);
  if (mistake == ENDS_EARLY) return;
  if (mistake == UNLIKE_WAITS && threadIdx.x / 32 == 1) {
    cuda_sim::wgmma_wait(0);
  } else if (mistake != NO_WAIT) {
    cuda_sim::wgmma_wait(0);
  }
  if (mistake == FENCE_TOO_EARLY) {
    sums[0] += 1;
    cuda_sim::wgmma_bf16(sums, 64, descriptor(left, 16, 1024), descriptor(right, 16, 1024), true);
    cuda_sim::wgmma_commit();
    cuda_sim::wgmma_wait(0);
  }
  int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  for (int i = 0; i < 32; i++) out[(row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i];
}

// out (64, 128) = a (64, 16) · b (16, 128), row-major bf16, a from registers and b from shared memory; added twice, in two
// groups of which the first is waited for alone.
extern "C" __global__ void __launch_bounds__(128) by_rows(float *out, const uint16_t *a, const uint16_t *b, int mistake) {
  uint16_t *right = (uint16_t *)cuda_sim::dynamic_shared();
  for (int i = threadIdx.x; i < 16 * 128; i += 128) store_swizzled(right, 16, i / 128, i % 128, b[i]);
  cuda_sim::fence_proxy_async();
  __syncthreads();
  int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  uint32_t fragment[4];
  float sums[64] = {0}, others[64] = {0};
  for (int i = 0; i < 4; i++) {
    const uint16_t *pair = a + (row + i % 2 * 8) * 16 + column + i / 2 * 8;
    fragment[i] = pair[0] | (uint32_t)pair[1] << 16;
  }
  cuda_sim::wgmma_fence();
  cuda_sim::wgmma_bf16(sums, 128, fragment, descriptor(right, 16 * 128, 1024));
  cuda_sim::wgmma_commit();
  cuda_sim::wgmma_bf16(others, 128, fragment, descriptor(right, 16 * 128, 1024));
  cuda_sim::wgmma_commit();
  cuda_sim::wgmma_wait(1);
  for (int i = 0; i < 64; i++) sums[i] *= 2;
  if (mistake == NO_WAIT) fragment[0] = 0;
  cuda_sim::wgmma_wait(0);
  for (int i = 0; i < 64; i++) out[(row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + column + i % 2] = sums[i] + others[i];
}
