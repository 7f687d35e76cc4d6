// Tiles of weights in blocks (q8_0, q4_0) for tensor cores: decoding is bound by memory only if a weight takes few
// instructions. Bytes of 16 rows pass through shared memory, integers become bf16 exactly, and the sum of each block's
// products with bf16 is scaled in f32.

#ifndef TINYLLAMA_LINEAR_BLOCKS_CUH
#define TINYLLAMA_LINEAR_BLOCKS_CUH

#include "elements.cuh"
#include "mma.cuh"

constexpr int TILE_ROWS = 16;
constexpr int TILE_BLOCKS = 8; // blocks of a span
constexpr int TILE_SPAN = TILE_BLOCKS * QUANT_BLOCK;
constexpr int MOST_WARPS = 16;  // of a block

// 16 bits twice: the bf16 numbers 128, -128 and -136, whose last bits are worth 1.
constexpr uint32_t PLUS_128 = 0x43004300u, MINUS_128 = 0xc300c300u, MINUS_136 = 0xc308c308u;

#ifdef CUDA_SIM

DEVICE uint32_t add_bf16_pairs(uint32_t a, uint32_t b) {
  return bf16_pair(float_of(a << 16) + float_of(b << 16), float_of(a & 0xffff0000u) + float_of(b & 0xffff0000u));
}

DEVICE uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits) { return (a & mask) | bits; }

DEVICE void keep(int &) {}

#else

// a + b of two pairs, rounded to nearest even.
DEVICE uint32_t add_bf16_pairs(uint32_t a, uint32_t b) {
  constexpr uint32_t ONES = 0x3f803f80u;
  uint32_t sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(ONES), "r"(b));
  return sum;
}

// (a & mask) | bits in one instruction: the compiler takes two, for each has room for one constant.
DEVICE uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(a), "r"(mask), "r"(bits));
  return result;
}

// Has the compiler hold a number in a register that it would otherwise compute again and again.
DEVICE void keep(int &number) { asm volatile("" : "+r"(number)); }

#endif

// 4 bytes of shared memory from an address that is a multiple of 4, or of 2 only where `IS_BETWEEN`.
template <bool IS_BETWEEN>
DEVICE uint32_t word_at(const unsigned char *place) {
  if (!IS_BETWEEN) return *(const uint32_t *)place;
  const uint32_t *words = (const uint32_t *)(place - 2);
  return words[0] >> 16 | words[1] << 16;
}

// What a lane multiplies of one block of a row: the four elements from 4 · part on and those 16 further on, as pairs of bf16,
// first the elements 0 and 2 of a four, then 1 and 3. `part` is the lane's number among the four of a row.
template <bool IS_BETWEEN>
DEVICE void integers_of(uint32_t pairs[4], const block_q4_0 *block, int part) {
  uint32_t word = word_at<IS_BETWEEN>(block->q + 4 * part);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    constexpr int SHIFTS[4] = {0, 8, 4, 12}; // low halves of the bytes, then high ones
    pairs[i] = add_bf16_pairs(and_or(word >> SHIFTS[i], 0x000f000fu, PLUS_128), MINUS_136);
  }
}

template <bool IS_BETWEEN>
DEVICE void integers_of(uint32_t pairs[4], const block_q8_0 *block, int part) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t word = word_at<IS_BETWEEN>((const unsigned char *)block->q + 4 * part + i / 2 * (QUANT_BLOCK / 2)) >> 8 * (i % 2);
    // The low 7 bits less 128 times the sign bit, each as a number from 128 to 256.
    pairs[i] = add_bf16_pairs(and_or(word, 0x007f007fu, PLUS_128), and_or(word, 0x00800080u, MINUS_128));
  }
}

// 8 neighbouring numbers of x as they lie in shared memory: of each four first 0 and 2, then 1 and 3.
DEVICE Pack<bf16> interleaved(const Pack<bf16> &pack) {
  Pack<bf16> mixed;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    mixed.words[i] = (pack.words[i] & 0xffffu) | pack.words[i + 1] << 16;
    mixed.words[i + 1] = pack.words[i] >> 16 | (pack.words[i + 1] & 0xffff0000u);
  }
  return mixed;
}

// One warp's part of a tile: where a span of it passes through shared memory. Other warps wait for memory meanwhile.
template <typename Block, int COLUMNS_>
struct BlockTile {
  static constexpr int COLUMNS = COLUMNS_;
  static constexpr int ROW_BYTES = TILE_BLOCKS * sizeof(Block); // an odd multiple of 16: lanes of 8 rows meet all banks
  static constexpr int ROW_PIECES = ROW_BYTES / 16;
  static constexpr int PIECES = TILE_ROWS * ROW_PIECES;
  static constexpr int LANE_PIECES = (PIECES + WARP - 1) / WARP;
  static constexpr int X_PITCH = TILE_SPAN + 8;

  struct Stage {
    alignas(16) unsigned char weights[TILE_ROWS * ROW_BYTES];
    alignas(16) bf16 x[COLUMNS][X_PITCH];
  };

  Stage *stage;
  const unsigned char *weight; // the tile's first row
  int blocks, rows;            // of a row; of the weight that there are
  bool packed;              // spans are whole, and pieces of 16 bytes can be copied
  int offsets[LANE_PIECES]; // from the tile's first row to the lane's pieces of the first span

  DEVICE BlockTile(Stage *stage, const void *weight, int first, int o, int i)
      : stage(stage), weight((const unsigned char *)weight + (size_t)first * (i / QUANT_BLOCK) * sizeof(Block)), blocks(i / QUANT_BLOCK), rows(min(TILE_ROWS, o - first)) {
    int row_bytes = blocks * (int)sizeof(Block);
    packed = blocks % TILE_BLOCKS == 0 && (uintptr_t)weight % 16 == 0;
#pragma unroll
    for (int piece = 0; piece < LANE_PIECES; piece++) {
      int index = piece * WARP + threadIdx.x, row = index / ROW_PIECES;
      offsets[piece] = index * 16 + min(row, rows - 1) * row_bytes - row * ROW_BYTES;
      keep(offsets[piece]);
    }
  }

  DEVICE int blocks_of(int span) const { return min(TILE_BLOCKS, blocks - span * TILE_BLOCKS); }

  // Begins to copy the weights of a span.
  DEVICE void begin(int span) const {
    int lane = threadIdx.x, bytes = blocks_of(span) * (int)sizeof(Block);
    const unsigned char *from = weight + (size_t)span * ROW_BYTES;
    if (packed) {
      unsigned char *to = stage->weights + lane * 16;
#pragma unroll
      for (int piece = 0; piece < LANE_PIECES; piece++)
        if ((piece + 1) * WARP <= PIECES || lane < PIECES % WARP) copy_async<16>(to + piece * WARP * 16, from + offsets[piece], true);
      return;
    }
    // Two bytes more where there is room: a word may be read of which the last block holds a half.
#pragma unroll 1
    for (int row = 0; row < TILE_ROWS; row++) {
      const unsigned char *of_row = from + min(row, rows - 1) * blocks * (int)sizeof(Block);
#pragma unroll 1
      for (int at = 2 * lane; at < min(bytes + 2, ROW_BYTES); at += 2 * WARP)
        *(uint16_t *)(stage->weights + row * ROW_BYTES + at) = at < bytes ? *(const uint16_t *)(of_row + at) : 0;
    }
  }

  // x of a span, 8 numbers a lane; a row begins at a multiple of 64 bytes.
  DEVICE void stage_x(const bf16 *x, int n, int span) const {
    int from = threadIdx.x * 8, at = span * TILE_SPAN + from, width = blocks * QUANT_BLOCK;
    if (at >= width) return;
    Pack<bf16> packs[COLUMNS];
#pragma unroll
    for (int r = 0; r < COLUMNS; r++) packs[r] = load_pack(x + (size_t)min(r, n - 1) * width, at, width, true);
#pragma unroll
    for (int r = 0; r < COLUMNS; r++) *(Pack<bf16> *)(stage->x[r] + from) = interleaved(packs[r]);
  }

  // sums += the products of block number `index` of the span with x.
  template <bool IS_BETWEEN>
  DEVICE void multiply(float sums[4], int index) const {
    int row = threadIdx.x / 4, part = threadIdx.x % 4;
    const Block *upper = (const Block *)(stage->weights + row * ROW_BYTES) + index;
    const Block *lower = (const Block *)(stage->weights + (row + 8) * ROW_BYTES) + index;
    uint32_t above[4], below[4];
    integers_of<IS_BETWEEN>(above, upper, part);
    integers_of<IS_BETWEEN>(below, lower, part);
    const bf16 *column = stage->x[COLUMNS == 1 ? 0 : row] + index * QUANT_BLOCK + 4 * part;
    float products[4] = {0, 0, 0, 0};
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t a[4] = {above[2 * half], below[2 * half], above[2 * half + 1], below[2 * half + 1]};
      uint2 values = *(const uint2 *)(column + half * QUANT_BLOCK / 2);
      uint32_t b[2] = {values.x, values.y};
      mma_16x8x16(products, a, b);
    }
    float scales[2] = {float_of_f16(upper->scale), float_of_f16(lower->scale)};
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (COLUMNS > 1 || i % 2 == 0) sums[i] += scales[i / 2] * products[i];
  }

  DEVICE void multiply_span(float sums[4], int span) const {
    int blocks = blocks_of(span);
    if (blocks == TILE_BLOCKS) {
#pragma unroll
      for (int index = 0; index < TILE_BLOCKS; index += 2) {
        multiply<true>(sums, index);
        multiply<false>(sums, index + 1);
      }
      return;
    }
#pragma unroll 1
    for (int index = 0; index < blocks; index += 2) {
      multiply<true>(sums, index);
      if (index + 1 < blocks) multiply<false>(sums, index + 1);
    }
  }
};

#endif
