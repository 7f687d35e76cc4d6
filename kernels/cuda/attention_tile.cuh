// Tiles of attention in shared memory and products of a warp's rows with them. A tile is rows of D bf16 whose 16-byte
// chunks are permuted within groups of eight by the row's number, so that ldmatrix meets no bank twice. Tiles begin at a
// multiple of 256 bytes. A warp has M stripes of 16 rows: a fragment of a tile, once read, serves all of them, since what
// bounds these products is reading shared memory.

#ifndef TINYLLAMA_ATTENTION_TILE_CUH
#define TINYLLAMA_ATTENTION_TILE_CUH

#include "mma.cuh"

constexpr int TILE_WARPS = 4;
constexpr int TILE_THREADS = TILE_WARPS * WARP;
constexpr int STRIPE = 16;
constexpr int CHUNK = 8;
constexpr float LN_2 = 0.6931471805599453f;
constexpr float MINUS_INFINITY = -__builtin_huge_valf();

template <int D>
struct Tile {
  static constexpr int ROW_BYTES = D * sizeof(bf16);
  bf16 *rows;

  DEVICE bf16 *at(int row, int chunk) const { return rows + row * D + (chunk ^ row % CHUNK) * CHUNK; }
  // The tile from a row on whose number is a multiple of eight.
  DEVICE Tile from(int row) const { return {rows + row * D}; }
};

// Rows first ... first + ROWS - 1 of an array with `stride` elements from row to row; those from `end` on become 0.
template <int D, int ROWS>
DEVICE void copy_tile(Tile<D> tile, const bf16 *array, int stride, int first, int end) {
  constexpr int CHUNKS = D / CHUNK, TOGETHER = TILE_THREADS / CHUNKS;
  int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS, left = end - first - row;
  bf16 *to = tile.at(row, chunk);
  const bf16 *from = array + (ptrdiff_t)(first + row) * stride + chunk * CHUNK;
#pragma unroll
  for (int i = 0; i < ROWS; i += TOGETHER) copy_async<16>(to + i * D, from + (ptrdiff_t)stride * i, i < left);
}

// Keys and values of one turn; turns take two places by turns.
template <int D, int ROWS>
struct KeyTile {
  Tile<D> keys, values;

  DEVICE KeyTile(bf16 *places, int turn) : keys{places + turn % 2 * 2 * ROWS * D}, values{keys.rows + ROWS * D} {}

  DEVICE void copy(const bf16 *key_rows, const bf16 *value_rows, int stride, int first, int end) const {
    copy_tile<D, ROWS>(keys, key_rows, stride, first, end);
    copy_tile<D, ROWS>(values, value_rows, stride, first, end);
  }
};

// Two chunks, the columns of a product's step, in bytes; steps differ in address by xor, as chunks do in a tile's row.
constexpr int STEP_BYTES = 2 * CHUNK * sizeof(bf16);

// The rows of a warp as fragments a of the D / 16 steps of a product: KEPT in registers, or read again for each product.
template <int D, int M, bool KEPT>
struct WarpRows {
  static constexpr int STEPS = D / 16;
  Place place;
  uint32_t fragments[KEPT ? STEPS : 1][M][4];

  DEVICE WarpRows(Tile<D> tile, int row) {
    int lane = threadIdx.x % WARP;
    place = place_of(tile.at(row + lane % STRIPE, lane / STRIPE));
  }

  // Once the tile is there.
  DEVICE void keep() {
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      if (KEPT) read(fragments[step], step);
  }

  DEVICE void read(uint32_t a[M][4], int step) const {
#pragma unroll
    for (int m = 0; m < M; m++) ldmatrix_x4(a[m], (place ^ step * STEP_BYTES) + m * STRIPE * Tile<D>::ROW_BYTES);
  }

  // acc (16 M x N) = rows · tileᵀ for the first N rows of a tile.
  template <int N>
  DEVICE void multiply(float acc[M][N / 8][4], Tile<D> tile) {
    int lane = threadIdx.x % WARP;
    Place first = place_of(tile.at(lane / 16 * 8 + lane % 8, lane / 8 % 2));
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int n = 0; n < N / 8; n++) acc[m][n][0] = acc[m][n][1] = acc[m][n][2] = acc[m][n][3] = 0;
    }
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      if (!KEPT) read(fragments[0], step);
#pragma unroll
      for (int n = 0; n < N / 16; n++) {
        uint32_t b[4];
        ldmatrix_x4(b, (first ^ step * STEP_BYTES) + n * STRIPE * Tile<D>::ROW_BYTES);
#pragma unroll
        for (int m = 0; m < M; m++) {
          const uint32_t *a = fragments[KEPT ? step : 0][m];
          mma_16x8x16(acc[m][2 * n], a, b);
          mma_16x8x16(acc[m][2 * n + 1], a, b + 2);
        }
      }
    }
  }
};

// Sums (16 M x N) as fragments a of a product over N.
template <int M, int N>
DEVICE void to_fragments(uint32_t a[M][N / 16][4], const float sums[M][N / 8][4]) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int step = 0; step < N / 16; step++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float *pair = sums[m][2 * step + i / 2] + i % 2 * 2;
        a[m][step][i] = bf16_pair(pair[0], pair[1]);
      }
    }
  }
}

// acc (16 M x D) += weights · tile for weights (16 M x N), rounded to bf16, and the first N rows of a tile.
template <int D, int M, int N>
DEVICE void add_weighted(float acc[M][D / 8][4], const float weights[M][N / 8][4], Tile<D> tile) {
  int lane = threadIdx.x % WARP;
  Place first = place_of(tile.at(lane % 16, lane / 16));
  uint32_t a[M][N / 16][4];
  to_fragments<M, N>(a, weights);
#pragma unroll
  for (int step = 0; step < N / 16; step++) {
#pragma unroll
    for (int n = 0; n < D / 16; n++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, (first ^ n * STEP_BYTES) + step * STRIPE * Tile<D>::ROW_BYTES);
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_16x8x16(acc[m][2 * n], a[m][step], b);
        mma_16x8x16(acc[m][2 * n + 1], a[m][step], b + 2);
      }
    }
  }
}

// Row of a warp's stripes that sums [m][.][2 half] and [m][.][2 half + 1] of a lane belong to.
DEVICE int stripe_row(int m, int half) { return m * STRIPE + half * 8 + threadIdx.x % WARP / 4; }

// Column that sum [m][n][i] of a lane belongs to.
DEVICE int stripe_column(int n, int i) { return n * 8 + threadIdx.x % 4 * 2 + i % 2; }

// Scores (16 M x N) of keys that a row does not see, those after its last one, become minus infinity.
template <int M, int N>
DEVICE void mask_keys(float scores[M][N / 8][4], int first_key, const int last_seen[M][2]) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (first_key + stripe_column(n, i) > last_seen[m][i / 2]) scores[m][n][i] = MINUS_INFINITY;
    }
  }
}

// Writes a warp's sums (16 M x D), each row times its factor, to rows of an array, by way of the rows of a tile that only
// this warp reads. Rows from `end` on are left out.
template <int D, int M>
DEVICE void store_sums(bf16 *array, int stride, int first_row, int end, Tile<D> tile, int tile_row, const float sums[M][D / 8][4], const float factors[M][2]) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = tile_row + stripe_row(m, half);
      float factor = factors[m][half];
#pragma unroll
      for (int n = 0; n < D / 8; n++)
        *(uint32_t *)(tile.at(row, n) + stripe_column(0, 0)) = bf16_pair(sums[m][n][2 * half] * factor, sums[m][n][2 * half + 1] * factor);
    }
  }
  __syncwarp();
  constexpr int CHUNKS = D / CHUNK;
#pragma unroll
  for (int i = threadIdx.x % WARP; i < M * STRIPE * CHUNKS; i += WARP) {
    int row = i / CHUNKS, chunk = i % CHUNKS;
    if (first_row + row < end)
      *(Pack<bf16> *)(array + (ptrdiff_t)(first_row + row) * stride + chunk * CHUNK) = *(const Pack<bf16> *)tile.at(tile_row + row, chunk);
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
