// Weight matrix times a few rows: four weight rows at a time stream past the activations, which stay in the L1 cache.
// Each output is one dot product in a fixed order, whatever the number of threads or of rows.

#include "matvec.h"

#include "int8_dot.h"

enum {
  ROW_GRAIN = 16, // weight rows of the smallest range
  MAX_COLUMNS = 4, // rows of activations multiplied at once
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

static int uses_integers(const matvec_problem *p) { return p->bf16 && (p->dtype == TL_Q8_0 || p->dtype == TL_Q4_0); }
static int uses_pairs(const matvec_problem *p) { return HAS_PAIRS && p->bf16 && p->dtype == TL_BF16; }

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

// `rows` weight rows from `o` on times `columns` rows of activations from `first` on.
static inline __attribute__((always_inline)) void float_dots(const matvec_state *s, ptrdiff_t o, int rows, ptrdiff_t first, int columns, int dtype, int round) {
  const matvec_problem *p = s->problem;
  const char *weight = (const char *)p->weight + (size_t)o * s->row_bytes;
  const float *x = (const float *)s->x + first * p->i;
  vf acc[DOT_ROWS][MAX_COLUMNS];
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) acc[r][c] = vf_set(0);
  ptrdiff_t j = 0;
  for (; j + VL <= p->i; j += VL) {
    for (int r = 0; r < rows; r++) {
      const char *row = weight + (size_t)r * s->row_bytes;
      vf w = load_weights(row, j, dtype, round);
      for (int c = 0; c < columns; c++) acc[r][c] = vf_fma(w, vf_load(x + c * p->i + j), acc[r][c]);
    }
  }
  for (int r = 0; r < rows; r++) {
    for (int c = 0; c < columns; c++) {
      float sum = vf_sum(acc[r][c]);
      for (ptrdiff_t k = j; k < p->i; k++) {
        float w;
        decode_elements(&w, weight + (size_t)r * s->row_bytes, dtype, (size_t)k, 1);
        if (round) w = ((vf)vu_round_bf16((vf){w}))[0];
        sum += w * x[c * p->i + k];
      }
      store_output(p, first + c, o + r, sum);
    }
  }
}

// Weights that are quantized, activations that are not.
static void quantized_float_dots(const matvec_state *s, ptrdiff_t o, int rows) {
  const matvec_problem *p = s->problem;
  for (int r = 0; r < rows; r++) {
    const char *row = (const char *)p->weight + (size_t)(o + r) * s->row_bytes;
    vf acc[MATVEC_MAX_ROWS];
    for (int c = 0; c < p->n; c++) acc[c] = vf_set(0);
    for (ptrdiff_t j = 0; j < p->i; j += QUANT_BLOCK) {
      float block[QUANT_BLOCK];
      decode_elements(block, row, p->dtype, (size_t)j, QUANT_BLOCK);
      for (int c = 0; c < p->n; c++)
        for (int k = 0; k < QUANT_BLOCK; k += VL)
          acc[c] = vf_fma(vf_load(block + k), vf_load((const float *)s->x + c * p->i + j + k), acc[c]);
    }
    for (int c = 0; c < p->n; c++) store_output(p, c, o + r, vf_sum(acc[c]));
  }
}

#if HAS_PAIRS
// Weights and activations in bf16, multiplied in pairs.
static inline __attribute__((always_inline)) void pair_dots(const matvec_state *s, ptrdiff_t o, int rows, ptrdiff_t first, int columns) {
  const matvec_problem *p = s->problem;
  const uint16_t *weight = (const uint16_t *)p->weight + o * p->i;
  const uint16_t *x = (const uint16_t *)s->x + first * p->i;
  __m512 acc[DOT_ROWS][MAX_COLUMNS];
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) acc[r][c] = _mm512_setzero_ps();
  for (ptrdiff_t j = 0; j < p->i; j += 2 * VL) {
    __mmask32 inside = p->i - j >= 2 * VL ? 0xffffffff : (1u << (p->i - j)) - 1;
    for (int r = 0; r < rows; r++) {
      __builtin_prefetch(weight + (r + DOT_ROWS) * (ptrdiff_t)p->i + j);
      __m512bh w = (__m512bh)_mm512_maskz_loadu_epi16(inside, weight + r * (ptrdiff_t)p->i + j);
      for (int c = 0; c < columns; c++)
        acc[r][c] = _mm512_dpbf16_ps(acc[r][c], w, (__m512bh)_mm512_maskz_loadu_epi16(inside, x + c * (ptrdiff_t)p->i + j));
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) store_output(p, first + c, o + r, vf_sum((vf)acc[r][c]));
}
#endif

// Unrolls the number of weight rows and of activation rows, both of which the compiler must know.
#define WITH_COLUMNS(rows, call)                                  \
  for (ptrdiff_t first = 0; first < p->n; first += MAX_COLUMNS) { \
    switch (p->n - first) {                                       \
      case 1: call(rows, 1); break;                               \
      case 2: call(rows, 2); break;                               \
      case 3: call(rows, 3); break;                               \
      default: call(rows, 4); break;                              \
    }                                                             \
  }
#define FOR_ROWS(call)                                                           \
  for (; o + DOT_ROWS <= end; o += DOT_ROWS) { WITH_COLUMNS(DOT_ROWS, call) }    \
  for (; o < end; o++) { WITH_COLUMNS(1, call) }

#define F32_DOTS(rows, columns) float_dots(s, o, rows, first, columns, TL_F32, 0)
#define F32_ROUNDED_DOTS(rows, columns) float_dots(s, o, rows, first, columns, TL_F32, 1)
#define BF16_DOTS(rows, columns) float_dots(s, o, rows, first, columns, TL_BF16, 0)
#define F16_DOTS(rows, columns) float_dots(s, o, rows, first, columns, TL_F16, 0)
#define F16_ROUNDED_DOTS(rows, columns) float_dots(s, o, rows, first, columns, TL_F16, 1)
#define PAIR_DOTS(rows, columns) pair_dots(s, o, rows, first, columns)

static void f32_task(const matvec_state *s, ptrdiff_t o, ptrdiff_t end) {
  const matvec_problem *p = s->problem;
  if (p->bf16) { FOR_ROWS(F32_ROUNDED_DOTS) } else { FOR_ROWS(F32_DOTS) }
}

static void f16_task(const matvec_state *s, ptrdiff_t o, ptrdiff_t end) {
  const matvec_problem *p = s->problem;
  if (p->bf16) { FOR_ROWS(F16_ROUNDED_DOTS) } else { FOR_ROWS(F16_DOTS) }
}

static void bf16_task(const matvec_state *s, ptrdiff_t o, ptrdiff_t end) {
  const matvec_problem *p = s->problem;
#if HAS_PAIRS
  if (uses_pairs(p)) {
    FOR_ROWS(PAIR_DOTS)
    return;
  }
#endif
  FOR_ROWS(BF16_DOTS)
}

static inline __attribute__((always_inline)) void integer_task(const matvec_state *s, ptrdiff_t begin, ptrdiff_t end, int quant4) {
  const matvec_problem *p = s->problem;
  ptrdiff_t blocks = p->i / QUANT_BLOCK;
  for (ptrdiff_t o = begin; o < end; o += DOT_ROWS) {
    const char *weight = (const char *)p->weight + (size_t)o * s->row_bytes;
    for (ptrdiff_t row = 0; row < p->n; row++) {
      quantized_row x = quantized_row_at((char *)s->x + (size_t)row * quantized_row_bytes(blocks), blocks);
      float sums[DOT_ROWS];
      int rows = end - o < DOT_ROWS ? (int)(end - o) : DOT_ROWS;
      if (rows == DOT_ROWS) dot_rows(sums, weight, s->row_bytes, DOT_ROWS, x, blocks, quant4);
      else
        for (int r = 0; r < rows; r++) dot_rows(sums + r, weight + (size_t)r * s->row_bytes, s->row_bytes, 1, x, blocks, quant4);
      for (int r = 0; r < rows; r++) store_output(p, row, o + r, sums[r]);
    }
  }
}

static void matvec_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const matvec_state *s = args;
  const matvec_problem *p = s->problem;
  switch (p->dtype) {
    case TL_F32: f32_task(s, begin, end); return;
    case TL_BF16: bf16_task(s, begin, end); return;
    case TL_F16: f16_task(s, begin, end); return;
    default:
      if (uses_integers(p)) {
        if (p->dtype == TL_Q4_0) integer_task(s, begin, end, 1);
        else integer_task(s, begin, end, 0);
        return;
      }
      for (ptrdiff_t o = begin; o < end; o += DOT_ROWS)
        quantized_float_dots(s, o, end - o < DOT_ROWS ? (int)(end - o) : DOT_ROWS);
  }
}

// The activations in the form the dot products want, in shared scratch memory.
static const void *prepare_x(tl_context *ctx, const matvec_problem *p) {
  if (!p->bf16) return p->x;
  ptrdiff_t count = (ptrdiff_t)p->n * p->i;
  if (uses_integers(p)) {
    ptrdiff_t blocks = p->i / QUANT_BLOCK;
    char *memory = tl_shared(ctx);
    for (ptrdiff_t row = 0; row < p->n; row++, memory += quantized_row_bytes(blocks))
      quantize_row(quantized_row_at(memory, blocks), p->x + row * p->i, blocks, p->dtype == TL_Q4_0 ? 8 : Q8_OFFSET);
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
