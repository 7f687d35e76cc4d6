// Products of up to 8 rows with a weight of any element type, as decoding needs them: memory bound by the weight, which is
// read once, in 16-byte pieces, and decoded to f32. A warp an output. Each lane multiplies 8 neighbouring elements at a
// time; blocks of the quantized types, which lie at odd addresses, pass through shared memory first. Larger products are
// cuBLASLt's, those of bf16 with blocks, and of several rows of bf16 with bf16, linear_tiles.cuh's.

#include "linear_tiles.cuh"

constexpr int WARPS = 4;
constexpr int MIN_BLOCKS = 4; // on a multiprocessor; leaves enough registers
constexpr int TAKEN = 8;                   // elements of a lane at a time
constexpr int ROUND = WARP * TAKEN;        // of a warp
constexpr int SPAN = 4 * ROUND;            // between two stages
constexpr int SPAN_BLOCKS = SPAN / QUANT_BLOCK;

// 8 elements in f32 from an address that is a multiple of 16 bytes.
template <typename T>
DEVICE void load_taken(float x[TAKEN], const T *from) {
#pragma unroll
  for (int i = 0; i < TAKEN; i += Pack<T>::WIDTH) load_floats(x + i, from, i, TAKEN, true);
}

// A weight's row of plain elements.
template <typename W>
struct PlainRow {
  static constexpr bool IS_PLAIN = true;
  const W *row;
  bool packed;

  DEVICE PlainRow(const void *weight, size_t index, int width)
      : row((const W *)weight + index * width), packed(width % TAKEN == 0 && (uintptr_t)weight % 16 == 0) {}

  DEVICE void stage(int) const {}
  DEVICE void load(float w[TAKEN], int at) const { load_taken(w, row + at); }
  DEVICE float element(int at) const { return to_float(row[at]); }
};

DEVICE void decode(float w[TAKEN], const block_q8_0 *block, int first) {
  const uint16_t *pairs = (const uint16_t *)block->q + first / 2;
  float scale = float_of_f16(block->scale);
#pragma unroll
  for (int i = 0; i < TAKEN / 2; i++) {
    w[2 * i] = scale * (float)(int8_t)(pairs[i] & 0xff);
    w[2 * i + 1] = scale * (float)(int8_t)(pairs[i] >> 8);
  }
}

DEVICE void decode(float w[TAKEN], const block_q4_0 *block, int first) {
  constexpr int HALF = QUANT_BLOCK / 2;
  const uint16_t *pairs = (const uint16_t *)block->q + first % HALF / 2;
  float scale = float_of_f16(block->scale);
  int shift = first < HALF ? 0 : 4;
#pragma unroll
  for (int i = 0; i < TAKEN / 2; i++) {
    w[2 * i] = scale * (float)((pairs[i] >> shift & 15) - 8);
    w[2 * i + 1] = scale * (float)((pairs[i] >> 8 >> shift & 15) - 8);
  }
}

DEVICE float decode_one(const block_q8_0 *block, int at) { return float_of_f16(block->scale) * (float)block->q[at]; }
DEVICE float decode_one(const block_q4_0 *block, int at) {
  constexpr int HALF = QUANT_BLOCK / 2;
  return float_of_f16(block->scale) * (float)((block->q[at % HALF] >> (at < HALF ? 0 : 4) & 15) - 8);
}

// A weight's row of blocks; those of a span are staged in the warp's part of shared memory, while the next span's are on
// their way to registers.
template <typename Block>
struct BlockRow {
  static constexpr bool IS_PLAIN = false;
  static constexpr int STAGE_BYTES = SPAN_BLOCKS * sizeof(Block);
  static constexpr int PIECES = (STAGE_BYTES / 16 + WARP - 1) / WARP;
  const unsigned char *row;
  int blocks;
  bool packed; // elements, once staged
  bool staged_packed;
  unsigned char *staged;
  Pack<float> next[PIECES];

  DEVICE BlockRow(const void *weight, size_t index, int width) : blocks(width / QUANT_BLOCK), packed(true) {
    __shared__ alignas(16) unsigned char stages[WARPS][STAGE_BYTES];
    row = (const unsigned char *)weight + index * blocks * sizeof(Block);
    staged_packed = (uintptr_t)weight % 16 == 0 && blocks * sizeof(Block) % 16 == 0;
    staged = stages[threadIdx.y];
    if (staged_packed) fetch(0);
  }

  DEVICE int bytes_from(int block) const { return min(SPAN_BLOCKS, blocks - block) * (int)sizeof(Block); }

  DEVICE void fetch(int block) {
    const unsigned char *from = row + (size_t)block * sizeof(Block);
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
      int at = (piece * WARP + threadIdx.x) * 16;
      if (at < bytes_from(block)) next[piece] = *(const Pack<float> *)(from + at);
    }
  }

  DEVICE void stage(int first) {
    int block = first / QUANT_BLOCK;
    __syncwarp();
    if (staged_packed) {
#pragma unroll
      for (int piece = 0; piece < PIECES; piece++) {
        int at = (piece * WARP + threadIdx.x) * 16;
        if (at < bytes_from(block)) *(Pack<float> *)(staged + at) = next[piece];
      }
      fetch(block + SPAN_BLOCKS);
    } else {
      const unsigned char *from = row + (size_t)block * sizeof(Block);
#pragma unroll 1
      for (int at = threadIdx.x * 2; at < bytes_from(block); at += WARP * 2) *(uint16_t *)(staged + at) = *(const uint16_t *)(from + at);
    }
    __syncwarp();
  }

  DEVICE void load(float w[TAKEN], int at) const {
    decode(w, (const Block *)staged + at % SPAN / QUANT_BLOCK, at % QUANT_BLOCK);
  }
  DEVICE float element(int at) const { return decode_one((const Block *)staged + at % SPAN / QUANT_BLOCK, at % QUANT_BLOCK); }
};

// sums[r] += weight · x[r] of the 8 elements from `at` on.
template <typename Row, typename T, int ROWS>
DEVICE void add_taken(float sums[ROWS], const Row &row, const T *x, int n, int i, int at) {
  float w[TAKEN], values[TAKEN];
  row.load(w, at);
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    load_taken(values, x + (size_t)min(r, n - 1) * i + at);
#pragma unroll
    for (int j = 0; j < TAKEN; j++) sums[r] += w[j] * values[j];
  }
}

// Σ x · a row of a plain weight, both in whole packs: a lane's share. While a span is multiplied, the next one is on its way;
// the first one while the kernel waits for x.
template <typename W, typename T>
DEVICE float row_product(const W *row, const T *x, int i) {
  constexpr int ROUNDS = SPAN / ROUND, PACKS = TAKEN / Pack<W>::WIDTH, X_PACKS = TAKEN / Pack<T>::WIDTH;
  Pack<W> next[ROUNDS][PACKS];
  auto fetch = [&](int first) {
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
      int at = first + round * ROUND;
#pragma unroll
      for (int k = 0; k < PACKS; k++)
        next[round][k] = at < i ? load_pack(row, at + k * Pack<W>::WIDTH, i, true) : Pack<W>{{0, 0, 0, 0}};
    }
  };
  float sum = 0;
  int lane_first = threadIdx.x * TAKEN;
  fetch(lane_first);
  wait_for_prerequisites();
#pragma unroll 1
  for (int first = lane_first; first < i; first += SPAN) {
    Pack<W> now[ROUNDS][PACKS];
#pragma unroll
    for (int round = 0; round < ROUNDS; round++)
#pragma unroll
      for (int k = 0; k < PACKS; k++) now[round][k] = next[round][k];
    fetch(first + SPAN);
    Pack<T> values[ROUNDS][X_PACKS];
#pragma unroll
    for (int round = 0; round < ROUNDS; round++)
#pragma unroll
      for (int k = 0; k < X_PACKS; k++) {
        int at = first + round * ROUND;
        values[round][k] = at < i ? load_pack(x, at + k * Pack<T>::WIDTH, i, true) : Pack<T>{{0, 0, 0, 0}};
      }
#pragma unroll
    for (int round = 0; round < ROUNDS; round++)
#pragma unroll
      for (int j = 0; j < TAKEN; j++)
        sum += now[round][j / Pack<W>::WIDTH].number(j % Pack<W>::WIDTH) * values[round][j / Pack<T>::WIDTH].number(j % Pack<T>::WIDTH);
  }
  return sum;
}

// out[r, column + row] = Σ x[r] · weight[row] + addend[r, column + row] for n <= ROWS rows of x; out and addend (n, width).
template <typename Row, typename T, int ROWS>
DEVICE void matvec(T *out, const T *x, const void *weight, const T *addend, int n, int o, int i, int column, int width) {
  constexpr int AT_ONCE = ROWS == 1 ? SPAN / ROUND : 1; // several rows of x keep the memory busy by themselves
  int index = block_row(), lane = threadIdx.x;
  launch_dependents();
  if (index >= o) return wait_for_prerequisites();
  Row row(weight, index, i);
  bool packed = row.packed && i % TAKEN == 0 && (uintptr_t)x % 16 == 0;
  float sums[ROWS] = {0};
  constexpr bool IS_ALONE = ROWS == 1 && Row::IS_PLAIN;
  if constexpr (IS_ALONE)
    if (packed) sums[0] = row_product(row.row, x, i);
  wait_for_prerequisites();
  for (int first = IS_ALONE && packed ? i : 0; first < i; first += SPAN) {
    int end = min(first + SPAN, i), at = first + lane * TAKEN;
    row.stage(first);
    if (!IS_ALONE && packed && first + SPAN <= i) {
#pragma unroll AT_ONCE
      for (int round = 0; round < SPAN; round += ROUND) add_taken<Row, T, ROWS>(sums, row, x, n, i, at + round);
    } else if (!IS_ALONE && packed) {
#pragma unroll 1
      for (; at < end; at += ROUND) add_taken<Row, T, ROWS>(sums, row, x, n, i, at);
    } else {
#pragma unroll 1
      for (at = first + lane; at < end; at += WARP) {
        float w = row.element(at);
#pragma unroll
        for (int r = 0; r < ROWS; r++) sums[r] += w * to_float(x[(size_t)min(r, n - 1) * i + at]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    float sum = warp_sum(sums[r]);
    size_t at = (size_t)r * width + column + index;
    if (lane == 0 && r < n) out[at] = from_float<T>(addend ? sum + to_float(addend[at]) : sum);
  }
}

#define MATVEC(NAME, ROW, SCALAR, T, ROWS)                                                                                  \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP, MIN_BLOCKS) matvec_##NAME##_##SCALAR##_##ROWS(T *out, const T *x, const void *weight, const T *addend, int n, int o, int i, int column, int width) { \
    matvec<ROW, T, ROWS>(out, x, weight, addend, n, o, i, column, width);                                                   \
  }
#define MATVEC_ROWS(NAME, ROW, SCALAR, T) MATVEC(NAME, ROW, SCALAR, T, 1) MATVEC(NAME, ROW, SCALAR, T, 4) MATVEC(NAME, ROW, SCALAR, T, 8)
#define MATVEC_SCALARS(NAME, ROW) MATVEC_ROWS(NAME, ROW, bf16, bf16) MATVEC_ROWS(NAME, ROW, f32, float)

MATVEC_SCALARS(f32, PlainRow<float>)
MATVEC_SCALARS(bf16, PlainRow<bf16>)
MATVEC_SCALARS(f16, PlainRow<f16>)
MATVEC_ROWS(q8_0, BlockRow<block_q8_0>, f32, float)
MATVEC_ROWS(q4_0, BlockRow<block_q4_0>, f32, float)

#define MATVEC_TILES(NAME, COLUMNS, TILE)                                                                                   \
  extern "C" __global__ void __launch_bounds__(MOST_WARPS * WARP, 1) matvec_tiles_##NAME##_##COLUMNS(bf16 *out, const bf16 *x, const void *weight, const bf16 *addend, int n, int o, int i, int column, int width) { \
    matvec_tiles<TILE>(out, x, weight, addend, n, o, i, column, width);                                                     \
  }

typedef BlockTile<block_q8_0, 1> TileQ80;
typedef BlockTile<block_q8_0, 8> TilesQ80;
typedef BlockTile<block_q4_0, 1> TileQ40;
typedef BlockTile<block_q4_0, 8> TilesQ40;

MATVEC_TILES(bf16, 8, PlainTile)
MATVEC_TILES(q8_0, 1, TileQ80)
MATVEC_TILES(q8_0, 8, TilesQ80)
MATVEC_TILES(q4_0, 1, TileQ40)
MATVEC_TILES(q4_0, 8, TilesQ40)
