// Small matrix products on tiles in scratch memory, from which attention's forward and backward are made. A tile has
// vectors along its columns. The operand that is broadcast element by element needs no packing, so a tile serves as it
// is in both orientations. Rows are padded to whole ROW_UNITs and columns to whole vectors; the padding is finite.

#ifndef TINYLLAMA_ATTENTION_TILE_H
#define TINYLLAMA_ATTENTION_TILE_H

#include "threads.h"
#include "transpose.h"

enum {
#if defined(__AVX512F__) || defined(__aarch64__)
  TILE_ROWS = 8, // 24 accumulators of 32 registers
#else
  TILE_ROWS = 4, // 12 accumulators of 16 registers
#endif
  PANEL_VECTORS = 3, // columns multiplied at once
  PANEL = PANEL_VECTORS * VL,
  ROW_UNIT = 8,
  TILE_COLUMNS = 96, // whole panels for every VL
  TILE_DEPTH = 64,
  SPLIT_WIDTH = 16, // VL from which a panel on the diagonal is worth dividing
};

typedef float *restrict tile_out;
typedef const float *restrict tile_in;

static inline ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t larger(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static inline ptrdiff_t quotient_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }
static inline ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) { return quotient_up(a, b) * b; }
// Head width as the tiles have it.
static inline ptrdiff_t padded_width(ptrdiff_t d) { return round_up(d, VL > ROW_UNIT ? VL : ROW_UNIT); }

#define TILE_INLINE static inline __attribute__((always_inline))

// c = c · factor + a b on `rows` x `vectors`, element (i, k) of a being a[i * a_row + k * a_column]. `factor` has one
// element a column; null means that c is overwritten when `fresh`, kept otherwise.
TILE_INLINE void multiply_rows(tile_out c, ptrdiff_t c_row, tile_in a, ptrdiff_t a_row, ptrdiff_t a_column, tile_in b, ptrdiff_t b_row, ptrdiff_t depth, const float *factor, int fresh, int rows, int vectors) {
  vf acc[ROW_UNIT][PANEL_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      if (fresh) acc[i][v] = vf_set(0);
      else acc[i][v] = vf_load(c + i * c_row + v * VL);
      if (factor) acc[i][v] *= vf_load(factor + v * VL);
    }
  for (ptrdiff_t k = 0; k < depth; k++) {
    vf row[PANEL_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) row[v] = vf_load(b + k * b_row + v * VL);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      vf element = vf_set(a[i * a_row + k * a_column]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) acc[i][v] = vf_fma(element, row[v], acc[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) vf_store(c + i * c_row + v * VL, acc[i][v]);
}

// Rows multiplied at once; with one vector, more of them, so that the additions do not wait for each other.
#define ROWS_AT_ONCE(vectors) ((vectors) == 1 ? ROW_UNIT : TILE_ROWS)

// c = a b: a has `rows` rows (rounded up to ROW_UNIT) of stride a_row, b `depth` rows of `vectors` vectors.
TILE_INLINE void multiply(tile_out c, ptrdiff_t c_row, tile_in a, ptrdiff_t a_row, tile_in b, ptrdiff_t b_row, ptrdiff_t rows, ptrdiff_t depth, int vectors) {
  for (ptrdiff_t i = 0; i < rows; i += ROWS_AT_ONCE(vectors))
    multiply_rows(c + i * c_row, c_row, a + i * a_row, a_row, 1, b, b_row, depth, 0, 1, ROWS_AT_ONCE(vectors), vectors);
}

// c = c · factor + aᵀ b: a has `depth` rows of `rows` elements (rounded up to ROW_UNIT).
TILE_INLINE void add_transposed_product(tile_out c, ptrdiff_t c_row, tile_in a, ptrdiff_t a_row, tile_in b, ptrdiff_t b_row, ptrdiff_t rows, ptrdiff_t depth, const float *factor, int vectors) {
  for (ptrdiff_t i = 0; i < rows; i += ROWS_AT_ONCE(vectors))
    multiply_rows(c + i * c_row, c_row, a + i, 1, a_row, b, b_row, depth, factor, 0, ROWS_AT_ONCE(vectors), vectors);
}

// dst = src · factor, zero-filled from d to `width`, a multiple of VL.
static inline void copy_padded(float *restrict dst, const float *restrict src, ptrdiff_t d, ptrdiff_t width, float factor) {
  ptrdiff_t j = 0;
  for (; j + VL <= d; j += VL) vf_store(dst + j, vf_load(src + j) * factor);
  for (; j < d; j++) dst[j] = src[j] * factor;
  for (; j < width; j++) dst[j] = 0;
}

// dst = srcᵀ of rows x columns, both multiples of VL.
static inline void transpose_tile(float *restrict dst, ptrdiff_t dst_row, const float *restrict src, ptrdiff_t src_row, ptrdiff_t rows, ptrdiff_t columns) {
  for (ptrdiff_t i = 0; i < rows; i += VL) {
    for (ptrdiff_t j = 0; j < columns; j += VL) {
      vf block[VL];
      for (int l = 0; l < VL; l++) block[l] = vf_load(src + (i + l) * src_row + j);
      transpose(block);
      for (int l = 0; l < VL; l++) vf_store(dst + (j + l) * dst_row + i, block[l]);
    }
  }
}

// tile = `count` rows of d elements times factor, then zero rows up to `padded`.
static inline void copy_rows(float *restrict tile, ptrdiff_t width, const float *restrict from, ptrdiff_t stride, ptrdiff_t d, ptrdiff_t count, ptrdiff_t padded, float factor) {
  for (ptrdiff_t k = 0; k < count; k++) copy_padded(tile + k * width, from + k * stride, d, width, factor);
  for (ptrdiff_t j = count * width; j < padded * width; j += VL) vf_store(tile + j, vf_set(0));
}

#endif
