// Tiles of attention in shared memory and products of a warp's 16 rows with them. A tile is rows of D bf16 whose 16-byte
// chunks are permuted within groups of eight by the row's number, so that ldmatrix meets no bank twice. Tiles begin at a
// multiple of 256 bytes.

#ifndef TINYLLAMA_ATTENTION_TILE_CUH
#define TINYLLAMA_ATTENTION_TILE_CUH

#include "mma.cuh"

constexpr int TILE_WARPS = 4;
constexpr int TILE_THREADS = TILE_WARPS * WARP;
constexpr int WARP_ROWS = 16;
constexpr int TILE_ROWS = TILE_WARPS * WARP_ROWS; // of what a block keeps
constexpr int CHUNK = 8;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

template <int D>
struct Tile {
  bf16 *rows;

  DEVICE bf16 *at(int row, int chunk) const { return rows + row * D + (chunk ^ row % CHUNK) * CHUNK; }
};

// Rows first ... first + ROWS - 1 of an array with `stride` elements from row to row; those from `end` on become 0.
template <int D, int ROWS>
DEVICE void copy_tile(Tile<D> tile, const bf16 *array, size_t stride, int first, int end) {
  constexpr int CHUNKS = D / CHUNK;
#pragma unroll
  for (int i = threadIdx.x; i < ROWS * CHUNKS; i += TILE_THREADS) {
    int row = i / CHUNKS, chunk = i % CHUNKS;
    bool is_there = first + row < end;
    copy_async<16>(tile.at(row, chunk), array + (is_there ? first + row : 0) * stride + chunk * CHUNK, is_there);
  }
}

// Keys and values of one turn; turns take two places by turns.
template <int D, int ROWS>
struct KeyTile {
  Tile<D> keys, values;

  DEVICE KeyTile(bf16 *places, int turn) : keys{places + turn % 2 * 2 * ROWS * D}, values{keys.rows + ROWS * D} {}

  DEVICE void copy(const bf16 *key_rows, const bf16 *value_rows, size_t stride, int first, int end) const {
    copy_tile<D, ROWS>(keys, key_rows, stride, first, end);
    copy_tile<D, ROWS>(values, value_rows, stride, first, end);
  }
};

// Two chunks, the columns of a product's step, in bytes; steps differ in address by xor, as chunks do in a tile's row.
constexpr int STEP_BYTES = 2 * CHUNK * sizeof(bf16);

// Fragment a of 16 rows from `row`, of the 16 columns of one step.
template <int D>
DEVICE void load_a(uint32_t a[4], Tile<D> tile, int row, int step) {
  int lane = threadIdx.x % WARP;
  ldmatrix_x4(a, tile.at(row + lane % 16, lane / 16), step * STEP_BYTES);
}

// acc (16 x N) += a · tileᵀ, where a (16 x 16) is one of the D / 16 steps and the tile has N rows.
template <int D, int N>
DEVICE void add_product_step(float acc[N / 8][4], const uint32_t a[4], Tile<D> tile, int step) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int n = 0; n < N / 16; n++) {
    uint32_t b[4];
    ldmatrix_x4(b, tile.at(n * 16 + lane / 16 * 8 + lane % 8, lane / 8 % 2), step * STEP_BYTES);
    mma_16x8x16(acc[2 * n], a, b);
    mma_16x8x16(acc[2 * n + 1], a, b + 2);
  }
}

// acc (16 x N) = rows · tileᵀ for the 16 rows of `rows` from `row` on.
template <int D, int N>
DEVICE void multiply_transposed(float acc[N / 8][4], Tile<D> rows, int row, Tile<D> tile) {
#pragma unroll
  for (int n = 0; n < N / 8; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; step++) {
    uint32_t a[4];
    load_a(a, rows, row, step);
    add_product_step<D, N>(acc, a, tile, step);
  }
}

// acc (16 x D) += weights · tile, for weights (16 x N) as fragments a and a tile of N rows.
template <int D, int N>
DEVICE void add_weighted(float acc[D / 8][4], const uint32_t weights[N / 16][4], Tile<D> tile) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int step = 0; step < N / 16; step++) {
#pragma unroll
    for (int n = 0; n < D / 16; n++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, tile.at(step * 16 + lane % 16, lane / 16), n * STEP_BYTES);
      mma_16x8x16(acc[2 * n], weights[step], b);
      mma_16x8x16(acc[2 * n + 1], weights[step], b + 2);
    }
  }
}

// Sums (16 x N) as fragments a of a product over N.
template <int N>
DEVICE void to_fragments(uint32_t a[N / 16][4], const float sums[N / 8][4]) {
#pragma unroll
  for (int step = 0; step < N / 16; step++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float *pair = sums[2 * step + i / 2] + i % 2 * 2;
      a[step][i] = bf16_pair(pair[0], pair[1]);
    }
  }
}

// Writes a warp's sums (16 x D), its two rows of a lane times `first` and `second`, to rows of an array, by way of the rows
// of a tile that only this warp reads. Rows from `end` on are left out.
template <int D>
DEVICE void store_sums(bf16 *array, size_t stride, int first_row, int end, Tile<D> tile, int tile_row, const float sums[D / 8][4], float first, float second) {
  int lane = threadIdx.x % WARP, row = lane / 4;
#pragma unroll
  for (int n = 0; n < D / 8; n++) {
    *(uint32_t *)(tile.at(tile_row + row, n) + lane % 4 * 2) = bf16_pair(sums[n][0] * first, sums[n][1] * first);
    *(uint32_t *)(tile.at(tile_row + row + 8, n) + lane % 4 * 2) = bf16_pair(sums[n][2] * second, sums[n][3] * second);
  }
  __syncwarp();
  constexpr int CHUNKS = D / CHUNK;
#pragma unroll
  for (int i = lane; i < WARP_ROWS * CHUNKS; i += WARP) {
    int at = i / CHUNKS, chunk = i % CHUNKS;
    if (first_row + at < end)
      *(Pack<bf16> *)(array + (first_row + at) * stride + chunk * CHUNK) = *(const Pack<bf16> *)tile.at(tile_row + at, chunk);
  }
}

// What the four lanes that share a row have together.
DEVICE float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 1));
  return fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 2));
}
DEVICE float quad_sum(float value) {
  value += __shfl_xor_sync(ALL_LANES, value, 1);
  return value + __shfl_xor_sync(ALL_LANES, value, 2);
}

#endif
