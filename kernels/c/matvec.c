// Weight matrix times a few rows: the weights stream past the activations, which stay in the L1 cache, one row after the
// other, which is what memory and its prefetchers like best. Each output is one dot product in a fixed order, whatever
// the number of threads or of rows.

#include "matvec.h"

#include "int8_dot.h"

enum {
  ROW_GRAIN = 16, // weight rows of the smallest range and of a block
  ROWS_AHEAD = 2, // weight rows that are fetched before they are needed
  PARTS = 4,      // partial sums of a dot product, so that additions need not wait for each other
#if defined(__AVX512F__) || defined(__aarch64__)
  MAX_COLUMNS = 4, // rows of activations multiplied at once: their partial sums fit the registers
#else
  MAX_COLUMNS = 2,
#endif
  MIDDLE = MAX_COLUMNS < 3 ? MAX_COLUMNS : 3,
};

typedef struct {
  const matvec_problem *problem;
  const void *x; // rows as prepare_x left them
  size_t row_bytes; // of the weights
} matvec_state;

#if defined(__AVX512BF16__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

static int is_quantized(const matvec_problem *p) { return p->dtype == TL_Q8_0 || p->dtype == TL_Q4_0; }
static int uses_pairs(const matvec_problem *p) { return HAS_PAIRS && p->bf16 && !is_quantized(p); }

static void store_output(const matvec_problem *p, ptrdiff_t x_row, ptrdiff_t o, float sum) {
  ptrdiff_t at = x_row * p->out_stride + o;
  p->out[at] = p->addend ? p->addend[at] + sum : sum;
}

// VL weights as f32.
static inline __attribute__((always_inline)) vf load_weights(const char *row, ptrdiff_t j, int dtype, int round) {
  vf w = dtype == TL_F32 ? vf_load((const float *)row + j)
    : dtype == TL_BF16 ? vf_from_bf16(vh_load((const uint16_t *)row + j))
                       : vf_from_f16(vh_load((const uint16_t *)row + j));
  return round && dtype != TL_BF16 ? (vf)vu_round_bf16(w) : w;
}

// The partial sums of one dot product, in a fixed order.
static inline __attribute__((always_inline)) float sum_parts(vf acc[PARTS][MAX_COLUMNS], int column) {
  return vf_sum((acc[0][column] + acc[1][column]) + (acc[2][column] + acc[3][column]));
}

// With several columns the hardware's prefetcher falls behind, with one it is better left alone. Rows further on are
// fetched while the first columns are multiplied.
static inline __attribute__((always_inline)) void fetch_row(const matvec_state *s, const char *at, ptrdiff_t first, int columns) {
  if (columns > 1 && first == 0) __builtin_prefetch(at + ROWS_AHEAD * s->row_bytes);
}

// Weight row `o` times `columns` rows of activations from `first` on.
static inline __attribute__((always_inline)) void float_dots(const matvec_state *s, ptrdiff_t o, ptrdiff_t first, int columns, int dtype, int round) {
  const matvec_problem *p = s->problem;
  const char *weight = (const char *)p->weight + (size_t)o * s->row_bytes;
  const float *x = (const float *)s->x + first * p->i;
  vf acc[PARTS][MAX_COLUMNS];
  for (int part = 0; part < PARTS; part++)
    for (int c = 0; c < columns; c++) acc[part][c] = (vf){0};
  ptrdiff_t j = 0;
  for (; j + PARTS * VL <= p->i; j += PARTS * VL) {
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; part++) {
      fetch_row(s, weight + (j + part * VL) * (dtype == TL_F32 ? 4 : 2), first, columns);
      vf w = load_weights(weight, j + part * VL, dtype, round);
#pragma GCC unroll 4
      for (int c = 0; c < columns; c++) acc[part][c] = vf_fma(w, vf_load(x + c * p->i + j + part * VL), acc[part][c]);
    }
  }
  for (; j + VL <= p->i; j += VL) {
    vf w = load_weights(weight, j, dtype, round);
    for (int c = 0; c < columns; c++) acc[0][c] = vf_fma(w, vf_load(x + c * p->i + j), acc[0][c]);
  }
  for (int c = 0; c < columns; c++) {
    float sum = sum_parts(acc, c);
    for (ptrdiff_t k = j; k < p->i; k++) {
      float w;
      decode_elements(&w, weight, dtype, (size_t)k, 1);
      if (round) w = ((vf)vu_round_bf16((vf){w}))[0];
      sum += w * x[c * p->i + k];
    }
    store_output(p, first + c, o, sum);
  }
}

// Quantized weight row `o`, decoded, times `columns` rows of activations from `first` on. Scaled a block at a time.
static inline __attribute__((always_inline)) void decoded_dots(const matvec_state *s, ptrdiff_t o, ptrdiff_t first, int columns, int dtype) {
  const matvec_problem *p = s->problem;
  const char *block = (const char *)p->weight + (size_t)o * s->row_bytes;
  const float *x = (const float *)s->x + first * p->i;
  vf acc[MAX_COLUMNS];
  for (int c = 0; c < columns; c++) acc[c] = (vf){0};
  for (ptrdiff_t j = 0; j < p->i; j += QUANT_BLOCK, block += element_bytes(dtype, QUANT_BLOCK)) {
    vf scale = block_scale(block), w[QUANT_BLOCK / VL];
    unpack_block(w, block, dtype);
    for (int c = 0; c < columns; c++) {
      const float *at = x + c * p->i + j;
      vf even = w[0] * vf_load(at), odd = w[1] * vf_load(at + VL);
      for (int k = 2; k < QUANT_BLOCK / VL; k += 2) {
        even = vf_fma(w[k], vf_load(at + k * VL), even);
        odd = vf_fma(w[k + 1], vf_load(at + (k + 1) * VL), odd);
      }
      acc[c] = vf_fma(scale, even + odd, acc[c]);
    }
  }
  for (int c = 0; c < columns; c++) store_output(p, first + c, o, vf_sum(acc[c]));
}

#if HAS_PAIRS
// Two vectors of weights as bf16, those beyond `count` zero.
static inline __attribute__((always_inline)) __m512bh load_pairs(const char *row, ptrdiff_t j, ptrdiff_t count, int dtype) {
  __mmask32 inside = count >= 2 * VL ? 0xffffffff : (1u << count) - 1;
  if (dtype == TL_F32) {
    const float *w = (const float *)row + j;
    return _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(inside >> VL), w + VL), _mm512_maskz_loadu_ps((__mmask16)inside, w));
  }
  __m512i w = _mm512_maskz_loadu_epi16(inside, (const uint16_t *)row + j);
  if (dtype == TL_BF16) return (__m512bh)w;
  return _mm512_cvtne2ps_pbh(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(w, 1)), _mm512_cvtph_ps(_mm512_castsi512_si256(w)));
}

// Weights and activations rounded to bf16, multiplied in pairs.
static inline __attribute__((always_inline)) void pair_dots(const matvec_state *s, ptrdiff_t o, ptrdiff_t first, int columns, int dtype) {
  enum { PAIRS = 2 * VL };
  const matvec_problem *p = s->problem;
  const char *weight = (const char *)p->weight + (size_t)o * s->row_bytes;
  const char *x = (const char *)((const uint16_t *)s->x + first * p->i);
  vf acc[PARTS][MAX_COLUMNS];
  for (int part = 0; part < PARTS; part++)
    for (int c = 0; c < columns; c++) acc[part][c] = (vf){0};
  ptrdiff_t j = 0;
  for (; j + PARTS * PAIRS <= p->i; j += PARTS * PAIRS) {
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; part++) {
      fetch_row(s, weight + (j + part * PAIRS) * (dtype == TL_F32 ? 4 : 2), first, columns);
      if (dtype == TL_F32) fetch_row(s, weight + (j + part * PAIRS + VL) * 4, first, columns);
      __m512bh w = load_pairs(weight, j + part * PAIRS, PAIRS, dtype);
#pragma GCC unroll 4
      for (int c = 0; c < columns; c++)
        acc[part][c] = (vf)_mm512_dpbf16_ps((__m512)acc[part][c], w, load_pairs(x, c * (ptrdiff_t)p->i + j + part * PAIRS, PAIRS, TL_BF16));
    }
  }
  for (; j < p->i; j += PAIRS) {
    __m512bh w = load_pairs(weight, j, p->i - j, dtype);
    for (int c = 0; c < columns; c++)
      acc[0][c] = (vf)_mm512_dpbf16_ps((__m512)acc[0][c], w, load_pairs(x, c * (ptrdiff_t)p->i + j, p->i - j, TL_BF16));
  }
  for (int c = 0; c < columns; c++) store_output(p, first + c, o, sum_parts(acc, c));
}

#define F32_PAIR_DOTS(columns) pair_dots(s, o, first, columns, TL_F32)
#define BF16_PAIR_DOTS(columns) pair_dots(s, o, first, columns, TL_BF16)
#define F16_PAIR_DOTS(columns) pair_dots(s, o, first, columns, TL_F16)
#else
#define F32_PAIR_DOTS(columns) float_dots(s, o, first, columns, TL_F32, 1)
#define BF16_PAIR_DOTS(columns) float_dots(s, o, first, columns, TL_BF16, 0)
#define F16_PAIR_DOTS(columns) float_dots(s, o, first, columns, TL_F16, 1)
#endif

// The number of activation rows is one the compiler must know. They take turns with a block of weight rows, so that few of
// them share the L1 cache, while the block is in the L2 cache after the first turn.
#define FOR_ROWS(call)                                                                   \
  for (ptrdiff_t block = begin; block < end; block += ROW_GRAIN) {                       \
    ptrdiff_t block_end = block + ROW_GRAIN < end ? block + ROW_GRAIN : end;             \
    for (ptrdiff_t first = 0; first < p->n; first += MAX_COLUMNS) {                      \
      switch (p->n - first) {                                                            \
        case 1: for (ptrdiff_t o = block; o < block_end; o++) call(1); break;            \
        case 2: for (ptrdiff_t o = block; o < block_end; o++) call(2); break;            \
        case 3: for (ptrdiff_t o = block; o < block_end; o++) call(MIDDLE); break;       \
        default: for (ptrdiff_t o = block; o < block_end; o++) call(MAX_COLUMNS); break; \
      }                                                                                  \
    }                                                                                    \
  }

#define F32_DOTS(columns) float_dots(s, o, first, columns, TL_F32, 0)
#define BF16_DOTS(columns) float_dots(s, o, first, columns, TL_BF16, 0)
#define F16_DOTS(columns) float_dots(s, o, first, columns, TL_F16, 0)

static void float_task(const matvec_state *s, ptrdiff_t begin, ptrdiff_t end) {
  const matvec_problem *p = s->problem;
  switch (p->dtype) {
    case TL_F32:
      if (p->bf16) { FOR_ROWS(F32_PAIR_DOTS) } else { FOR_ROWS(F32_DOTS) }
      return;
    case TL_BF16:
      if (p->bf16) { FOR_ROWS(BF16_PAIR_DOTS) } else { FOR_ROWS(BF16_DOTS) }
      return;
    default:
      if (p->bf16) { FOR_ROWS(F16_PAIR_DOTS) } else { FOR_ROWS(F16_DOTS) }
  }
}

// Quantized weight row `o` times `columns` quantized rows of activations from `first` on.
static inline __attribute__((always_inline)) void integer_dots(const matvec_state *s, ptrdiff_t o, ptrdiff_t first, int columns, int quant4) {
  const matvec_problem *p = s->problem;
  ptrdiff_t blocks = p->i / QUANT_BLOCK;
  quantized_row x[DOT_COLUMNS];
  float sums[DOT_COLUMNS];
  for (int c = 0; c < columns; c++) x[c] = quantized_row_at((char *)s->x + (size_t)(first + c) * quantized_row_bytes(blocks), blocks);
  dot_columns(sums, (const char *)p->weight + (size_t)o * s->row_bytes, x, columns, blocks, quant4);
  for (int c = 0; c < columns; c++) store_output(p, first + c, o, sums[c]);
}

#define Q8_DOTS(columns) integer_dots(s, o, first, columns, 0)
#define Q4_DOTS(columns) integer_dots(s, o, first, columns, 1)
#define DECODED_Q8_DOTS(columns) decoded_dots(s, o, first, columns, TL_Q8_0)
#define DECODED_Q4_DOTS(columns) decoded_dots(s, o, first, columns, TL_Q4_0)

static void quantized_task(const matvec_state *s, ptrdiff_t begin, ptrdiff_t end) {
  const matvec_problem *p = s->problem;
  if (p->dtype == TL_Q4_0) {
    if (p->bf16) { FOR_ROWS(Q4_DOTS) } else { FOR_ROWS(DECODED_Q4_DOTS) }
  } else {
    if (p->bf16) { FOR_ROWS(Q8_DOTS) } else { FOR_ROWS(DECODED_Q8_DOTS) }
  }
}

static void matvec_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const matvec_state *s = args;
  const matvec_problem *p = s->problem;
  if (is_quantized(p)) quantized_task(s, begin, end);
  else float_task(s, begin, end);
}

// The activations in the form the dot products want, in shared scratch memory.
static const void *prepare_x(tl_context *ctx, const matvec_problem *p) {
  if (!p->bf16) return p->x;
  ptrdiff_t count = (ptrdiff_t)p->n * p->i;
  if (is_quantized(p)) {
    ptrdiff_t blocks = p->i / QUANT_BLOCK;
    char *memory = tl_shared(ctx);
    for (ptrdiff_t row = 0; row < p->n; row++, memory += quantized_row_bytes(blocks))
      quantize_row(quantized_row_at(memory, blocks), p->x + row * p->i, blocks, p->dtype == TL_Q4_0);
  } else if (uses_pairs(p)) {
    uint16_t *rounded = tl_shared(ctx);
    ptrdiff_t j = 0;
    for (; j + VL <= count; j += VL) vh_store(rounded + j, vf_to_bf16(vf_load(p->x + j)));
    for (; j < count; j++) rounded[j] = vf_to_bf16((vf){p->x[j]})[0];
  } else {
    float *rounded = tl_shared(ctx);
    ptrdiff_t j = 0;
    for (; j + VL <= count; j += VL) vf_store(rounded + j, (vf)vu_round_bf16(vf_load(p->x + j)));
    for (; j < count; j++) rounded[j] = ((vf)vu_round_bf16((vf){p->x[j]}))[0];
  }
  return tl_shared(ctx);
}

void tl_matvec(tl_context *ctx, const matvec_problem *problem) {
  matvec_state s = {problem, prepare_x(ctx, problem), element_bytes(problem->dtype, (size_t)problem->i)};
  tl_parallel(ctx, matvec_task, &s, problem->o, ROW_GRAIN);
}
