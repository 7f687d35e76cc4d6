// Matrix product after Goto and van de Geijn 2008 and BLIS (Van Zee and van de Geijn 2015): operands are packed into
// panels that fit the caches, and a register tile multiplies one panel of each. Packing is where transposes, element
// types and rounding to bf16 are dealt with. The order of every sum depends on the shape alone, never on the threads.

#include "gemm.h"

#include "elements.h"
#include "transpose.h"

// Register tile: TILE_M rows by TILE_N columns, as many accumulators as the registers hold beside one row of B.
#if defined(__AVX512F__)
enum { TILE_M = 12, TILE_VECTORS = 2 };
#elif defined(__AVX2__)
enum { TILE_M = 6, TILE_VECTORS = 2 };
#elif defined(__aarch64__)
enum { TILE_M = 8, TILE_VECTORS = 2 };
#else
enum { TILE_M = 4, TILE_VECTORS = 2 };
#endif

// A word is one f32, or where the CPU multiplies bf16 pairs, two bf16 of neighbouring depth.
#if defined(__AVX512BF16__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

enum {
  TILE_N = TILE_VECTORS * VL,
  MAX_DEPTH = 320,           // words of depth of one packed block: a panel of B then stays near the L1 cache
  DEPTH_UNIT = 32,           // so that a block of depth is whole quantization blocks
  SLAB_WORDS = 2 << 20,      // packed words of one operand that are kept at once
  MAX_SLAB_DEPTH = 4096,     // words
  GROUP_A = 8, GROUP_B = 4,  // panels packed by one range
  BLOCK_A = 16, BLOCK_B = 8, // panels multiplied by one range: those of A stay in the L2 cache
  BLOCKS_PER_THREAD = 8,     // wanted, so that threads end together
  LINES = 16,                // depth packed at once from a depth-major operand
};

typedef struct {
  const gemm_problem *problem;
  int pairs; // elements per word are 2
  ptrdiff_t words, block_words; // depth of the whole problem and of one block
  // The slab being packed and multiplied.
  ptrdiff_t row_a, rows_a, row_b, rows_b, word, slab_words;
  uint32_t *packed_a, *packed_b;
  ptrdiff_t block_a, block_b, blocks_b;
  int pack_a;
} gemm_state;

static inline ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t quotient_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }

// Rounds `count` (a multiple of VL) f32 to bf16 in place.
static void round_elements(float *x, ptrdiff_t count) {
  for (ptrdiff_t j = 0; j < count; j += VL) vf_store(x + j, (vf)vu_round_bf16(vf_load(x + j)));
}

// dst = words of two neighbouring elements each, from 2 * count f32; count is a multiple of VL.
static void pair_elements(float *dst, const float *src, ptrdiff_t count) {
#if HAS_PAIRS
  for (ptrdiff_t j = 0; j < count; j += VL)
    vf_store(dst + j, (vf)_mm512_cvtne2ps_pbh((__m512)vf_load(src + 2 * j + VL), (__m512)vf_load(src + 2 * j)));
#else
  (void)dst, (void)src, (void)count;
#endif
}

// The words [word, word + words) of one row of a row-major operand, zero-filled to whole vectors; `buffer` may be used.
static const float *row_words(const gemm_state *s, const gemm_operand *x, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *buffer) {
  int per_word = s->pairs ? 2 : 1;
  ptrdiff_t first = word * per_word;
  ptrdiff_t count = smaller(words * per_word, s->problem->k - first);
  ptrdiff_t padded = quotient_up(words, VL) * VL;
  size_t start = (size_t)(row * x->stride + first);
  if (count == padded * per_word) {
    if (x->dtype == TL_F32 && !s->problem->bf16) return (const float *)x->data + start;
    if (x->dtype == TL_BF16 && s->pairs) return (const float *)((const uint16_t *)x->data + start);
  }
  float *decoded = s->pairs ? buffer + 2 * MAX_DEPTH : buffer;
  decode_elements(decoded, x->data, x->dtype, start, (size_t)count);
  for (ptrdiff_t j = count; j < padded * per_word; j++) decoded[j] = 0;
  if (s->pairs) pair_elements(buffer, decoded, padded);
  else if (s->problem->bf16) round_elements(buffer, padded);
  return buffer;
}

// Packs one panel of `width` rows from `row` on: dst[k * width + r]. Rows from `end` on are zero.
static inline __attribute__((always_inline)) void pack_rows(const gemm_state *s, const gemm_operand *x, int width, ptrdiff_t row, ptrdiff_t end, ptrdiff_t word, ptrdiff_t words, float *dst, float *scratch) {
  enum { ROW = 4 * MAX_DEPTH + VL };
  for (int lane = 0; lane < width; lane += VL) {
    int lanes = width - lane < VL ? width - lane : VL;
    const float *source[VL];
    float *zeros = scratch + VL * ROW;
    for (int l = 0; l < VL; l++) {
      ptrdiff_t r = row + lane + l;
      source[l] = l < lanes && r < end ? row_words(s, x, r, word, words, scratch + l * ROW) : zeros;
    }
    for (ptrdiff_t k = 0; k < words; k += VL) {
      vf block[VL];
      for (int l = 0; l < VL; l++) block[l] = vf_load(source[l] + k);
      transpose(block);
      for (int l = 0; l < VL; l++) {
        if (k + l >= words) break;
        float *to = dst + (k + l) * width + lane;
        // A whole vector may spill into the next depth, which is written later, but not out of the panel.
        if (lanes == VL || k + l + 1 < words) vf_store(to, block[l]);
        else __builtin_memcpy(to, &block[l], (size_t)lanes * 4);
      }
    }
  }
}

// One line (a word of depth) of `count` neighbouring rows of a depth-major operand.
static void depth_line(const gemm_state *s, const gemm_operand *x, ptrdiff_t row, ptrdiff_t count, ptrdiff_t word, float *line) {
  const float *even = (const float *)x->data + (s->pairs ? 2 * word : word) * x->stride + row;
  if (!s->problem->bf16) {
    __builtin_memcpy(line, even, (size_t)count * 4);
    return;
  }
  int has_odd = s->pairs && 2 * word + 1 < s->problem->k;
  const float *odd = has_odd ? even + x->stride : even;
  uint32_t odd_mask = has_odd ? 0xffffffff : 0;
  ptrdiff_t j = 0;
  for (; j + VL <= count; j += VL) {
    vu low = vu_round_bf16(vf_load(even + j));
    if (s->pairs) low = low >> 16 | (vu_round_bf16(vf_load(odd + j)) & odd_mask);
    vf_store(line + j, (vf)low);
  }
  for (; j < count; j++) {
    uint32_t low = vu_round_bf16((vf){even[j]})[0];
    if (s->pairs) low = low >> 16 | (vu_round_bf16((vf){odd[j]})[0] & odd_mask);
    ((uint32_t *)line)[j] = low;
  }
}

// Packs up to `panels` panels at once, so that the source is read along its lines.
static inline __attribute__((always_inline)) void pack_depth(const gemm_state *s, const gemm_operand *x, int width, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t end, ptrdiff_t word, ptrdiff_t words, float *dst, float *scratch) {
  ptrdiff_t count = smaller(panels * width, end - row);
  if (count == panels * width && !s->problem->bf16) {
    for (ptrdiff_t k = 0; k < words; k++) {
      const float *line = (const float *)x->data + (word + k) * x->stride + row;
      for (ptrdiff_t p = 0; p < panels; p++) __builtin_memcpy(dst + (p * words + k) * width, line + p * width, (size_t)width * 4);
    }
    return;
  }
  for (ptrdiff_t k = 0; k < words; k += LINES) {
    ptrdiff_t lines = smaller(LINES, words - k);
    for (ptrdiff_t l = 0; l < lines; l++) {
      float *line = scratch + l * panels * width;
      depth_line(s, x, row, count, word + k + l, line);
      for (ptrdiff_t j = count; j < panels * width; j++) line[j] = 0;
    }
    for (ptrdiff_t p = 0; p < panels; p++)
      for (ptrdiff_t l = 0; l < lines; l++)
        __builtin_memcpy(dst + (p * words + k + l) * width, scratch + (l * panels + p) * width, (size_t)width * 4);
  }
}

static inline __attribute__((always_inline)) void pack_group(const gemm_state *s, const gemm_operand *x, int width, ptrdiff_t panel, ptrdiff_t group, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t word, ptrdiff_t words, float *packed, float *scratch) {
  ptrdiff_t all = quotient_up(rows, width), panels = smaller(group, all - panel);
  float *dst = packed + (word - s->word) * all * width + panel * words * width;
  ptrdiff_t first = row + panel * width, end = row + rows;
  if (x->depth_major) {
    pack_depth(s, x, width, panels, first, end, word, words, dst, scratch);
    return;
  }
  for (ptrdiff_t p = 0; p < panels; p++)
    pack_rows(s, x, width, first + p * width, end, word, words, dst + p * words * width, scratch);
}

static void pack_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  const gemm_state *s = args;
  float *scratch = tl_scratch(ctx, worker);
  enum { ROW = 4 * MAX_DEPTH + VL };
  for (int j = 0; j < MAX_DEPTH + VL; j++) scratch[VL * ROW + j] = 0; // the rows beyond the matrix
  ptrdiff_t groups_a = s->pack_a ? quotient_up(quotient_up(s->rows_a, TILE_M), GROUP_A) : 0;
  ptrdiff_t groups_b = quotient_up(quotient_up(s->rows_b, TILE_N), GROUP_B);
  for (ptrdiff_t index = begin; index < end; index++) {
    ptrdiff_t group = index % (groups_a + groups_b);
    ptrdiff_t word = s->word + index / (groups_a + groups_b) * s->block_words;
    ptrdiff_t words = smaller(s->block_words, s->word + s->slab_words - word);
    if (group < groups_a)
      pack_group(s, &s->problem->a, TILE_M, group * GROUP_A, GROUP_A, s->row_a, s->rows_a, word, words, (float *)s->packed_a, scratch);
    else
      pack_group(s, &s->problem->b, TILE_N, (group - groups_a) * GROUP_B, GROUP_B, s->row_b, s->rows_b, word, words, (float *)s->packed_b, scratch);
  }
}

// acc += the product of one panel of A and one of B.
static inline __attribute__((always_inline)) void multiply_panels(vf acc[TILE_M][TILE_VECTORS], const float *restrict a, const float *restrict b, ptrdiff_t words, int pairs) {
  (void)pairs;
  for (ptrdiff_t k = 0; k < words; k++, a += TILE_M, b += TILE_N) {
    vf row[TILE_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) row[v] = vf_load(b + v * VL);
#pragma GCC unroll 16
    for (int i = 0; i < TILE_M; i++) {
      vf element = vf_set(a[i]);
#pragma GCC unroll 4
      for (int v = 0; v < TILE_VECTORS; v++) {
#if HAS_PAIRS
        if (pairs) {
          acc[i][v] = (vf)_mm512_dpbf16_ps((__m512)acc[i][v], (__m512bh)element, (__m512bh)row[v]);
          continue;
        }
#endif
        acc[i][v] = vf_fma(element, row[v], acc[i][v]);
      }
    }
  }
}

// c = init + the product of two panels, of which rows x columns are inside the matrix.
static inline __attribute__((always_inline)) void multiply_tile(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, int pairs) {
  vf acc[TILE_M][TILE_VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < TILE_M; i++)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = (vf){0};
  multiply_panels(acc, a, b, words, pairs);
  if (rows == TILE_M && columns == TILE_N) {
    if (init) {
#pragma GCC unroll 16
      for (int i = 0; i < TILE_M; i++)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) vf_store(c + i * stride + v * VL, acc[i][v] + vf_load(init + i * stride + v * VL));
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < TILE_M; i++)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) vf_store(c + i * stride + v * VL, acc[i][v]);
    }
    return;
  }
  float tile[TILE_M * TILE_N];
#pragma GCC unroll 16
  for (int i = 0; i < TILE_M; i++)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) vf_store(tile + i * TILE_N + v * VL, acc[i][v]);
  for (ptrdiff_t i = 0; i < rows; i++)
    for (ptrdiff_t j = 0; j < columns; j++) c[i * stride + j] = tile[i * TILE_N + j] + (init ? init[i * stride + j] : 0);
}

static void tile_f32(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
  multiply_tile(a, b, words, c, init, stride, rows, columns, 0);
}

#if HAS_PAIRS
static void tile_pairs(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
  multiply_tile(a, b, words, c, init, stride, rows, columns, 1);
}
#else
#define tile_pairs tile_f32
#endif

// Multiplies block `index` of the slab: block_a x block_b panels.
static void multiply_block(const gemm_state *s, ptrdiff_t index) {
  const gemm_problem *p = s->problem;
  ptrdiff_t panels_a = quotient_up(s->rows_a, TILE_M), panels_b = quotient_up(s->rows_b, TILE_N);
  ptrdiff_t first_a = index / s->blocks_b * s->block_a, last_a = smaller(first_a + s->block_a, panels_a);
  ptrdiff_t first_b = index % s->blocks_b * s->block_b, last_b = smaller(first_b + s->block_b, panels_b);
  for (ptrdiff_t done = 0; done < s->slab_words; done += s->block_words) {
    ptrdiff_t words = smaller(s->block_words, s->slab_words - done);
    const float *block_a = (const float *)s->packed_a + done * panels_a * TILE_M;
    const float *block_b = (const float *)s->packed_b + done * panels_b * TILE_N;
    const float *init = s->word + done == 0 ? p->init : p->c;
    for (ptrdiff_t jb = first_b; jb < last_b; jb++) {
      for (ptrdiff_t ja = first_a; ja < last_a; ja++) {
        ptrdiff_t at = (s->row_a + ja * TILE_M) * p->c_stride + s->row_b + jb * TILE_N;
        ptrdiff_t rows = smaller(TILE_M, s->rows_a - ja * TILE_M), columns = smaller(TILE_N, s->rows_b - jb * TILE_N);
        const float *a = block_a + ja * words * TILE_M, *b = block_b + jb * words * TILE_N;
        if (s->pairs) tile_pairs(a, b, words, p->c + at, init ? init + at : 0, p->c_stride, rows, columns);
        else tile_f32(a, b, words, p->c + at, init ? init + at : 0, p->c_stride, rows, columns);
      }
    }
  }
}

static void multiply_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  for (ptrdiff_t index = begin; index < end; index++) multiply_block(args, index);
}

static void multiply_slab(tl_context *ctx, gemm_state *s) {
  ptrdiff_t panels_a = quotient_up(s->rows_a, TILE_M), panels_b = quotient_up(s->rows_b, TILE_N);
  ptrdiff_t groups = (s->pack_a ? quotient_up(panels_a, GROUP_A) : 0) + quotient_up(panels_b, GROUP_B);
  tl_parallel(ctx, pack_task, s, groups * quotient_up(s->slab_words, s->block_words), 1);
  s->block_a = smaller(BLOCK_A, panels_a);
  s->block_b = smaller(BLOCK_B, panels_b);
  ptrdiff_t wanted = tl_thread_count(ctx) == 1 ? 1 : (ptrdiff_t)BLOCKS_PER_THREAD * tl_thread_count(ctx);
  while (quotient_up(panels_a, s->block_a) * quotient_up(panels_b, s->block_b) < wanted && s->block_a * s->block_b > 4) {
    if (s->block_a * TILE_M > s->block_b * TILE_N) s->block_a = quotient_up(s->block_a, 2);
    else if (s->block_b > 1) s->block_b = quotient_up(s->block_b, 2);
    else s->block_a = quotient_up(s->block_a, 2);
  }
  s->blocks_b = quotient_up(panels_b, s->block_b);
  tl_parallel(ctx, multiply_task, s, quotient_up(panels_a, s->block_a) * s->blocks_b, 1);
}

void tl_gemm(tl_context *ctx, const gemm_problem *p) {
  gemm_state s = {.problem = p, .pairs = HAS_PAIRS && p->bf16};
  s.words = s.pairs ? (p->k + 1) / 2 : p->k;
  ptrdiff_t blocks = quotient_up(s.words, MAX_DEPTH);
  s.block_words = quotient_up(quotient_up(s.words, blocks), DEPTH_UNIT) * DEPTH_UNIT;
  ptrdiff_t slab_words = smaller(s.words, MAX_SLAB_DEPTH / s.block_words * s.block_words);
  ptrdiff_t slab_a = SLAB_WORDS / slab_words / TILE_M * TILE_M, slab_b = SLAB_WORDS / slab_words / TILE_N * TILE_N;
  s.packed_a = tl_shared(ctx);
  s.packed_b = s.packed_a + SLAB_WORDS;
  for (s.row_a = 0; s.row_a < p->m; s.row_a += slab_a) {
    s.rows_a = smaller(slab_a, p->m - s.row_a);
    for (s.word = 0; s.word < s.words; s.word += slab_words) {
      s.slab_words = smaller(slab_words, s.words - s.word);
      s.pack_a = 1;
      for (s.row_b = 0; s.row_b < p->n; s.row_b += slab_b) {
        s.rows_b = smaller(slab_b, p->n - s.row_b);
        multiply_slab(ctx, &s);
        s.pack_a = 0;
      }
    }
  }
}
