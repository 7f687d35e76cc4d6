// Packing of matrix product operands into panels, dst[k * width + r]: where transposes, element types and rounding to
// bf16 are dealt with, in registers on the way. Rows of a panel beyond the matrix hold anything. Used by gemm.c alone.

#ifndef TINYLLAMA_GEMM_PACK_H
#define TINYLLAMA_GEMM_PACK_H

#include "elements.h"
#include "gemm.h"
#include "gemm_tile.h"
#include "transpose.h"

// What a word of depth holds: an f32, an f32 rounded to bf16, two bf16, four bytes (gemm_int8.h).
enum word_kind { WORD_F32, WORD_ROUNDED, WORD_PAIR, WORD_BYTES };
static inline int word_elements(int kind) { return kind == WORD_BYTES ? 4 : kind == WORD_PAIR ? 2 : 1; }

enum {
  LINE_WORDS = 512, // longest run of rows packed at once from a depth-major operand
  LINES_AHEAD = 8,  // depth-major lines lie too far apart for the hardware to fetch them ahead
};

typedef struct {
  gemm_operand x;
  int kind;        // enum word_kind
  ptrdiff_t depth; // elements
  ptrdiff_t end;   // rows of the matrix
} pack_source;

// What packing these rows and words will read. Nothing when they lie outside the matrix.
static inline fetch_ahead source_of(const pack_source *s, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t word, ptrdiff_t words) {
  ptrdiff_t first = word * word_elements(s->kind), count = words * word_elements(s->kind);
  if (rows > s->end - row) rows = s->end - row;
  if (count > s->depth - first) count = s->depth - first;
  if (rows <= 0 || count <= 0) return (fetch_ahead){0};
  const char *data = s->x.data;
  ptrdiff_t line = (ptrdiff_t)element_bytes(s->x.dtype, (size_t)s->x.stride);
  if (s->x.depth_major) return (fetch_ahead){data + first * line + row * 4, rows * 4, line, count, 0, 0};
  ptrdiff_t offset = (ptrdiff_t)element_bytes(s->x.dtype, (size_t)first), run = (ptrdiff_t)element_bytes(s->x.dtype, (size_t)count);
  return (fetch_ahead){data + row * line + offset, run, line, rows, 0, 0};
}

// VL elements from `at` on, a multiple of VL, of a row; any rounding is left to the caller.
static inline __attribute__((always_inline)) vf load_elements(const char *row, ptrdiff_t at, int dtype) {
  typedef uint8_t bytes __attribute__((vector_size(VL), aligned(1), may_alias));
  switch (dtype) {
    case TL_F32: return vf_load((const float *)row + at);
    case TL_BF16: return vf_from_bf16(vh_load((const uint16_t *)row + at));
    case TL_F16: return vf_from_f16(vh_load((const uint16_t *)row + at));
    case TL_Q8_0: {
      const block_q8_0 *block = (const block_q8_0 *)row + at / QUANT_BLOCK;
      return vf_set(f16_to_f32(block->scale)) * vf_from_i8(block->q + at % QUANT_BLOCK);
    }
    default: {
      const block_q4_0 *block = (const block_q4_0 *)row + at / QUANT_BLOCK;
      bytes packed = *(const bytes *)(block->q + at % (QUANT_BLOCK / 2));
      vi nibbles = __builtin_convertvector(packed, vi);
      nibbles = at % QUANT_BLOCK < QUANT_BLOCK / 2 ? nibbles & 15 : nibbles >> 4;
      return vf_set(f16_to_f32(block->scale)) * __builtin_convertvector(nibbles - 8, vf);
    }
  }
}

// VL words from `word` on, a multiple of VL, of a row.
static inline __attribute__((always_inline)) vf load_words(const char *row, ptrdiff_t word, int dtype, int kind) {
#if HAS_PAIRS
  if (kind == WORD_PAIR) {
    if (dtype == TL_BF16) return (vf)_mm512_loadu_si512(row + 4 * word);
    return (vf)_mm512_cvtne2ps_pbh((__m512)load_elements(row, 2 * word + VL, dtype), (__m512)load_elements(row, 2 * word, dtype));
  }
#endif
  vf x = load_elements(row, word, dtype);
  return kind == WORD_ROUNDED && dtype != TL_BF16 ? (vf)vu_round_bf16(x) : x;
}

// The last words of a row, fewer than VL, with zeros beyond its end.
static inline __attribute__((always_inline)) vf load_last_words(const pack_source *s, ptrdiff_t row, ptrdiff_t word, int dtype, int kind) {
  ptrdiff_t first = kind == WORD_PAIR ? 2 * word : word;
  float last[2 * VL] = {0};
  ptrdiff_t count = s->depth - first < 2 * VL ? s->depth - first : 2 * VL;
  decode_elements(last, s->x.data, dtype, (size_t)(row * s->x.stride + first), (size_t)count);
  return load_words((const char *)last, 0, TL_F32, kind);
}

static inline __attribute__((always_inline)) void store_transposed(float *dst, vf block[VL], int width, int lane, int lanes, ptrdiff_t k, ptrdiff_t words) {
  transpose(block);
  for (int l = 0; l < VL; l++) {
    if (k + l >= words) break;
    float *to = dst + (k + l) * width + lane;
    // A whole vector may spill into the next depth, where that is written later, but not out of the panel.
    if (lanes == VL || (lane == 0 && k + l + 1 < words)) vf_store(to, block[l]);
    else __builtin_memcpy(to, &block[l], (size_t)lanes * 4);
  }
}

// One panel of a row-major operand.
static inline __attribute__((always_inline)) void pack_rows(const pack_source *s, int width, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst, int dtype, int kind) {
  size_t row_bytes = element_bytes(dtype, (size_t)s->x.stride);
  ptrdiff_t complete = (kind == WORD_PAIR ? s->depth / 2 : s->depth) - word;
  ptrdiff_t whole = (complete < words ? complete : words) / VL * VL;
  for (int lane = 0; lane < width; lane += VL) {
    int lanes = width - lane < VL ? width - lane : VL;
    const char *source[VL];
    ptrdiff_t source_row[VL];
    for (int l = 0; l < lanes; l++) {
      source_row[l] = row + lane + l < s->end ? row + lane + l : s->end - 1;
      source[l] = (const char *)s->x.data + (size_t)source_row[l] * row_bytes;
    }
    // The rows of the next panel are fetched ahead: a row gives too few lines here for the hardware to learn it.
    size_t ahead = row + 2 * width <= s->end ? (size_t)width * row_bytes : 0;
    size_t word_bytes = element_bytes(dtype, (size_t)QUANT_BLOCK) * (kind == WORD_PAIR ? 2 : 1);
    for (ptrdiff_t k = 0; k < words; k += VL) {
      vf block[VL];
      if (k < whole) {
        size_t offset = (size_t)(word + k) * word_bytes / QUANT_BLOCK + ahead;
#pragma GCC unroll 16
        for (int l = 0; l < VL; l++) {
          if (l < lanes) __builtin_prefetch(source[l] + offset);
          block[l] = l < lanes ? load_words(source[l], word + k, dtype, kind) : (vf){0};
        }
      } else {
        for (int l = 0; l < VL; l++) block[l] = l < lanes ? load_last_words(s, source_row[l], word + k, dtype, kind) : (vf){0};
      }
      store_transposed(dst, block, width, lane, lanes, k, words);
    }
  }
}

// One word of depth of `count` neighbouring rows of a depth-major operand.
static inline __attribute__((always_inline)) void round_line(float *line, const pack_source *s, ptrdiff_t row, ptrdiff_t count, ptrdiff_t word, int kind) {
  const float *even = (const float *)s->x.data + (kind == WORD_PAIR ? 2 * word : word) * s->x.stride + row;
  int has_odd = kind == WORD_PAIR && 2 * word + 1 < s->depth;
#if HAS_PAIRS
  typedef uint16_t halves __attribute__((vector_size(64)));
  const float *odd = even + (has_odd ? s->x.stride : 0);
  for (ptrdiff_t j = 0; j < count; j += VL) {
    __mmask16 inside = count - j >= VL ? 0xffff : (__mmask16)((1u << (count - j)) - 1);
    __m512 high = _mm512_maskz_loadu_ps(has_odd ? inside : 0, odd + j), low = _mm512_maskz_loadu_ps(inside, even + j);
    halves both = (halves)_mm512_cvtne2ps_pbh(high, low); // all of low, then all of high
    vf_store(line + j, (vf)__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24,
      9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  }
#else
  (void)has_odd;
  ptrdiff_t j = 0;
  for (; j + VL <= count; j += VL) vf_store(line + j, (vf)vu_round_bf16(vf_load(even + j)));
  for (; j < count; j++) line[j] = ((vf)vu_round_bf16((vf){even[j]}))[0];
#endif
}

// Neighbouring panels of a depth-major operand, so that the source is read along its lines.
static inline __attribute__((always_inline)) void pack_lines(const pack_source *s, int width, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst, int kind) {
  float rounded[LINE_WORDS + VL];
  ptrdiff_t count = s->end - row < panels * width ? s->end - row : panels * width;
  ptrdiff_t whole = count / width, rest = count - whole * width;
  int per_word = kind == WORD_PAIR ? 2 : 1;
  for (ptrdiff_t k = 0; k < words; k++) {
    const float *line = (const float *)s->x.data + (word + k) * per_word * s->x.stride + row;
    if ((word + k + LINES_AHEAD) * per_word + per_word <= s->depth)
      for (ptrdiff_t j = 0; j < count; j += 16)
        for (int l = 0; l < per_word; l++) __builtin_prefetch(line + (LINES_AHEAD * per_word + l) * s->x.stride + j);
    if (kind != WORD_F32) {
      round_line(rounded, s, row, count, word + k, kind);
      line = rounded;
    }
    float *to = dst + k * width;
    for (ptrdiff_t p = 0; p < whole; p++, to += words * width, line += width) __builtin_memcpy(to, line, (size_t)width * 4);
    for (ptrdiff_t j = 0; j < rest; j++) to[j] = line[j];
  }
}

// `panels` neighbouring panels of any operand, each of words * width words. The element types are told apart here.
static inline __attribute__((always_inline)) void pack_panels(const pack_source *s, int width, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst) {
  if (s->x.depth_major) {
    ptrdiff_t step = LINE_WORDS / width;
    for (ptrdiff_t p = 0; p < panels; p += step) {
      ptrdiff_t some = panels - p < step ? panels - p : step;
      float *to = dst + p * words * width;
      if (s->kind == WORD_F32) pack_lines(s, width, some, row + p * width, word, words, to, WORD_F32);
      else pack_lines(s, width, some, row + p * width, word, words, to, HAS_PAIRS ? WORD_PAIR : WORD_ROUNDED);
    }
    return;
  }
#define PACK(dtype)                                                                                              \
  if (s->kind == WORD_F32) pack_rows(s, width, row + p * width, word, words, to, dtype, WORD_F32);               \
  else pack_rows(s, width, row + p * width, word, words, to, dtype, HAS_PAIRS ? WORD_PAIR : WORD_ROUNDED);       \
  break
  for (ptrdiff_t p = 0; p < panels; p++) {
    float *to = dst + p * words * width;
    switch (s->x.dtype) {
      case TL_F32: PACK(TL_F32);
      case TL_BF16: PACK(TL_BF16);
      case TL_F16: PACK(TL_F16);
      case TL_Q8_0: PACK(TL_Q8_0);
      default: PACK(TL_Q4_0);
    }
  }
#undef PACK
}

#endif
