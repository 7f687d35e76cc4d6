// Quantized weights times activations rounded to 8 bits per block of 32, for gemm.c: VNNI multiplies four bytes of depth
// at once. A panel's block of depth is its bytes, then the block's scales, then (activations only) the corrections for
// the offset that makes weights unsigned.

#ifndef TINYLLAMA_GEMM_INT8_H
#define TINYLLAMA_GEMM_INT8_H

#include "gemm_pack.h"
#include "int8_dot.h"

#if defined(__AVX512VNNI__)
#define HAS_BYTES 1
#else
#define HAS_BYTES 0
#endif

enum {
  BLOCK_WORDS = QUANT_BLOCK / 4,
  LINES_A = BLOCK_WORDS + 2, LINES_B = BLOCK_WORDS + 1, // lines of TILE_M and TILE_N words that a block takes
  HALF_M = TILE_M / 2, // rows multiplied at once: each has integer and float accumulators
};

#if HAS_BYTES

static void pack_bytes_a(const pack_source *s, int offset, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst) {
  for (ptrdiff_t p = 0; p < panels; p++, row += TILE_M) {
    for (ptrdiff_t k = 0; k < words; k += BLOCK_WORDS, dst += LINES_A * TILE_M) {
      for (int r = 0; r < TILE_M; r++) {
        ptrdiff_t at = row + r < s->end ? row + r : s->end - 1;
        union {
          int8_t q[QUANT_BLOCK];
          float words[BLOCK_WORDS];
        } block;
        int32_t sum = quantize_block(block.q, dst + BLOCK_WORDS * TILE_M + r, (const float *)s->x.data + at * s->x.stride + (word + k) * 4);
        for (int l = 0; l < BLOCK_WORDS; l++) dst[l * TILE_M + r] = block.words[l];
        ((int32_t *)dst)[(BLOCK_WORDS + 1) * TILE_M + r] = -offset * sum;
      }
    }
  }
}

static inline __attribute__((always_inline)) void pack_bytes_b(const pack_source *s, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst, int quant4) {
  size_t block_bytes = quant4 ? sizeof(block_q4_0) : sizeof(block_q8_0), row_bytes = element_bytes(s->x.dtype, (size_t)s->x.stride);
  ptrdiff_t panel_words = words / BLOCK_WORDS * LINES_B * TILE_N;
  for (ptrdiff_t lane = 0; lane < panels * TILE_N; lane += VL) {
    const char *source[VL];
    for (int l = 0; l < VL; l++) {
      ptrdiff_t at = row + lane + l < s->end ? row + lane + l : s->end - 1;
      source[l] = (const char *)s->x.data + (size_t)at * row_bytes + (size_t)(word / BLOCK_WORDS) * block_bytes;
    }
    float *to = dst + lane / TILE_N * panel_words + lane % TILE_N;
    for (ptrdiff_t k = 0; k < words; k += 2 * BLOCK_WORDS) {
      int blocks = words - k > BLOCK_WORDS ? 2 : 1;
      vf block[VL];
#pragma GCC unroll 16
      for (int l = 0; l < VL; l++) block[l] = (vf)load_pair(source[l], quant4, blocks == 2);
      transpose(block);
      for (int b = 0; b < blocks; b++, to += LINES_B * TILE_N) {
        uint16_t scale[VL];
        for (int l = 0; l < VL; l++, source[l - 1] += block_bytes) scale[l] = *(const uint16_t *)source[l];
        for (int l = 0; l < BLOCK_WORDS; l++) vf_store(to + l * TILE_N, block[b * BLOCK_WORDS + l]);
        vf_store(to + BLOCK_WORDS * TILE_N, vf_from_f16(vh_load(scale)));
      }
    }
  }
}

// HALF_M rows of a tile: acc = their products.
static inline __attribute__((always_inline)) void multiply_bytes(vf acc[HALF_M][TILE_VECTORS], const float *a, const float *b, ptrdiff_t words, fetch_ahead *ahead) {
#pragma GCC unroll 16
  for (int i = 0; i < HALF_M; i++)
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = (vf){0};
  for (ptrdiff_t k = 0; k < words; k += BLOCK_WORDS, a += LINES_A * TILE_M, b += LINES_B * TILE_N) {
    if (k % FETCH_STEP == 0) fetch_lines(ahead);
    const int32_t *bytes = (const int32_t *)a;
    __m512i sum[HALF_M][TILE_VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < HALF_M; i++)
#pragma GCC unroll 4
      for (int v = 0; v < TILE_VECTORS; v++) sum[i][v] = _mm512_set1_epi32(bytes[(BLOCK_WORDS + 1) * TILE_M + i]);
#pragma GCC unroll 8
    for (int l = 0; l < BLOCK_WORDS; l++) {
      __m512i row[TILE_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < TILE_VECTORS; v++) row[v] = _mm512_loadu_si512(b + l * TILE_N + v * VL);
#pragma GCC unroll 16
      for (int i = 0; i < HALF_M; i++) {
        __m512i element = _mm512_set1_epi32(bytes[l * TILE_M + i]);
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], row[v], element);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < HALF_M; i++) {
      vf scale = vf_set(a[BLOCK_WORDS * TILE_M + i]);
#pragma GCC unroll 4
      for (int v = 0; v < TILE_VECTORS; v++)
        acc[i][v] = vf_fma((vf)_mm512_cvtepi32_ps(sum[i][v]), scale * vf_load(b + BLOCK_WORDS * TILE_N + v * VL), acc[i][v]);
    }
  }
}

static void tile_bytes(const float *a, const float *b, ptrdiff_t words, float *c, const float *init, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, fetch_ahead *ahead) {
  fetch_init(init, stride, rows);
  for (int half = 0; half < TILE_M && half < rows; half += HALF_M, c += HALF_M * stride, init = init ? init + HALF_M * stride : 0) {
    vf acc[HALF_M][TILE_VECTORS];
    multiply_bytes(acc, a + half, b, words, ahead);
    store_tile(acc, HALF_M, c, init, stride, rows - half, columns);
  }
}

#else
#define pack_bytes_a(s, offset, panels, row, word, words, dst) (void)(offset)
#define pack_bytes_b(s, panels, row, word, words, dst, quant4) (void)(quant4)
#define tile_bytes tile_f32
#endif

#endif
