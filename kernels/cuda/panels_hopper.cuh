// Tiles of attention in shared memory for Hopper's products, and how blocks of its kernels are made: two warpgroups.

#ifndef TINYLLAMA_PANELS_HOPPER_CUH
#define TINYLLAMA_PANELS_HOPPER_CUH

#include "attention_tile.cuh"
#include "mma_hopper.cuh"

constexpr int WARPGROUPS = 2;
constexpr int THREADS = WARPGROUPS * WARPGROUP;
constexpr int ROWS = WARPGROUPS * WARPGROUP_ROWS;

// R rows of D numbers in shared memory as D / 64 panels.
template <int D, int R>
struct Panels {
  static constexpr int PANEL_BYTES = R * PANEL_ROW_BYTES, BYTES = D / PANEL * PANEL_BYTES;
  unsigned char *place;

  // Rows first ... first + R - 1 of an array with `stride` elements from row to row; those from `end` on become 0.
  DEVICE void copy(const bf16 *array, int stride, int first, int end) const {
    constexpr int CHUNKS = D / CHUNK, TOGETHER = THREADS / CHUNKS;
    int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS, left = end - first - row;
    Tile<PANEL> panel = {(bf16 *)(place + chunk / (PANEL / CHUNK) * PANEL_BYTES)};
    bf16 *to = panel.at(row, chunk % (PANEL / CHUNK));
    const bf16 *from = array + (ptrdiff_t)(first + row) * stride + chunk * CHUNK;
#pragma unroll
    for (int i = 0; i < R; i += TOGETHER) copy_async<16>(to + i * PANEL, from + (ptrdiff_t)stride * i, i < left);
  }

  // Rows from `row` on, of which a product takes columns 16 step ... 16 step + 15.
  DEVICE uint64_t columns(int row, int step) const {
    constexpr int STEPS = PANEL / 16;
    return operand(place + row * PANEL_ROW_BYTES, step / STEPS * PANEL_BYTES + step % STEPS * STEP_BYTES, 16);
  }

  // Rows 16 step ... 16 step + 15.
  DEVICE uint64_t rows(int step) const { return operand(place, step * 16 * PANEL_ROW_BYTES, PANEL_BYTES); }
};

#endif
