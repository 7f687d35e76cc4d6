// The register tile of the matrix product: TILE_M rows of A by TILE_N columns of B, as many accumulators as the
// registers hold beside one row of B. Used by gemm.c alone.

#ifndef TINYLLAMA_GEMM_TILE_H
#define TINYLLAMA_GEMM_TILE_H

#include "simd.h"

#if defined(__AVX512F__)
enum { TILE_M = 12, TILE_VECTORS = 2 };
#elif defined(__AVX2__)
enum { TILE_M = 6, TILE_VECTORS = 2 };
#elif defined(__aarch64__)
enum { TILE_M = 8, TILE_VECTORS = 2 };
#elif defined(__wasm__)
enum { TILE_M = 5, TILE_VECTORS = 2 }; // on x86, engines keep one of the sixteen registers for themselves
#else
enum { TILE_M = 4, TILE_VECTORS = 2 };
#endif
enum { TILE_N = TILE_VECTORS * VL };

// A word of depth is one f32, or where the CPU multiplies bf16 pairs, two bf16 of neighbouring depth.
#if defined(__AVX512BF16__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

enum { FETCH_STEP = 16, CACHE_LINE = 64 };

// Memory that will be packed next, fetched into the L2 cache while tiles are multiplied: `runs` runs of `run` bytes.
typedef struct {
  const char *at;
  ptrdiff_t run, stride, runs, offset; // bytes
  ptrdiff_t lines;                     // per FETCH_STEP words of depth
} fetch_ahead;

static inline void fetch_lines(fetch_ahead *f) {
  for (ptrdiff_t j = 0; j < f->lines && f->runs > 0; j++) {
    __builtin_prefetch(f->at + f->offset, 0, 2);
    f->offset += CACHE_LINE;
    if (f->offset < f->run) continue;
    f->offset = 0;
    f->at += f->stride;
    f->runs--;
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

// Rows of init lie too far apart for the hardware to fetch them ahead.
static inline void fetch_init(const float *init, ptrdiff_t stride, ptrdiff_t rows) {
  if (!init) return;
  for (ptrdiff_t i = 0; i < rows; i++) {
    __builtin_prefetch(init + i * stride, 1);
    __builtin_prefetch(init + i * stride + TILE_N - 1, 1);
  }
}

// c = init + acc, `height` rows of accumulators of which rows x columns are inside the matrix.
static inline __attribute__((always_inline)) void store_tile(vf acc[][TILE_VECTORS], int height, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
  if (rows >= height && columns == TILE_N) {
    if (init) {
#pragma GCC unroll 16
      for (int i = 0; i < height; i++)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) vf_store(c + i * stride + v * VL, acc[i][v] + vf_load(init + i * stride + v * VL));
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < height; i++)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) vf_store(c + i * stride + v * VL, acc[i][v]);
    }
    return;
  }
  float tile[TILE_M * TILE_N];
#pragma GCC unroll 16
  for (int i = 0; i < height; i++)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) vf_store(tile + i * TILE_N + v * VL, acc[i][v]);
  for (ptrdiff_t i = 0; i < height && i < rows; i++)
    for (ptrdiff_t j = 0; j < columns; j++) c[i * stride + j] = tile[i * TILE_N + j] + (init ? init[i * stride + j] : 0);
}

// c = init + the product of two panels, of which rows x columns are inside the matrix.
static inline __attribute__((always_inline)) void multiply_tile(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, fetch_ahead *ahead, int pairs) {
  vf acc[TILE_M][TILE_VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < TILE_M; i++)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = (vf){0};
  fetch_init(init, stride, rows);
  for (ptrdiff_t k = 0; k < words; k += FETCH_STEP) {
    fetch_lines(ahead);
    multiply_panels(acc, a + k * TILE_M, b + k * TILE_N, words - k < FETCH_STEP ? words - k : FETCH_STEP, pairs);
  }
  store_tile(acc, TILE_M, c, init, stride, rows, columns);
}

static void tile_f32(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, fetch_ahead *ahead) {
  multiply_tile(a, b, words, c, init, stride, rows, columns, ahead, 0);
}

#if HAS_PAIRS
static void tile_pairs(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, fetch_ahead *ahead) {
  multiply_tile(a, b, words, c, init, stride, rows, columns, ahead, 1);
}
#else
#define tile_pairs tile_f32
#endif

#endif
