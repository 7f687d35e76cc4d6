// Dot products of quantized weight rows with one row of activations quantized to 8 bits per block of 32. Four rows at a
// time, so that the activations are loaded once; one implementation per instruction set. Used by matvec.c
// and, where there is VNNI, by gemm_int8.h.

#ifndef TINYLLAMA_INT8_DOT_H
#define TINYLLAMA_INT8_DOT_H

#include "elements.h"

#if defined(__AVX2__)
enum { DOT_LANES = 8 }; // i32 partial sums of one block
#else
enum { DOT_LANES = 4 };
#endif
// What is added to 8-bit weights to make them unsigned, which VNNI wants. Nibbles are stored plus 8.
#if defined(__AVX512VNNI__)
enum { Q8_OFFSET = 128 };
#else
enum { Q8_OFFSET = 0 };
#endif
enum { DOT_ROWS = 4, SCALE_GROUP = 16 };

// One quantized row of activations. Each array is padded with zeros to whole groups of SCALE_GROUP blocks.
typedef struct {
  int8_t *q;           // QUANT_BLOCK per block
  float *scale;        // one per block
  int32_t *correction; // DOT_LANES per block: minus the weights' offset times the sum of q, in the first lane
} quantized_row;

static inline ptrdiff_t padded_blocks(ptrdiff_t blocks) { return (blocks + SCALE_GROUP - 1) / SCALE_GROUP * SCALE_GROUP; }

// Bytes of one quantized_row's arrays.
static inline size_t quantized_row_bytes(ptrdiff_t blocks) {
  return (size_t)padded_blocks(blocks) * (QUANT_BLOCK + sizeof(float) + DOT_LANES * sizeof(int32_t));
}

static inline quantized_row quantized_row_at(void *memory, ptrdiff_t blocks) {
  ptrdiff_t padded = padded_blocks(blocks);
  quantized_row row = {memory, 0, 0};
  row.scale = (float *)(row.q + padded * QUANT_BLOCK);
  row.correction = (int32_t *)(row.scale + padded);
  return row;
}

// Rounds one block of activations to 8 bits. Returns the sum of q.
static inline int32_t quantize_block(int8_t *q, float *scale, const float *x) {
  typedef int8_t bytes __attribute__((vector_size(VL), aligned(1), may_alias));
  const vf shift = vf_set(0x1.8p23f); // adding it rounds to the nearest integer, which the low bits then hold
  vi largest = {0};
  for (int j = 0; j < QUANT_BLOCK; j += VL) {
    vi magnitude = (vi)vf_load(x + j) & 0x7fffffff; // ordered like the floats they are
    vi is_larger = magnitude > largest;
    largest = (is_larger & magnitude) | (~is_larger & largest);
  }
  float lane[VL], peak;
  vf_store(lane, (vf)largest);
  for (int width = VL / 2; width > 0; width /= 2)
    for (int j = 0; j < width; j++) lane[j] = lane[j] > lane[j + width] ? lane[j] : lane[j + width];
  peak = lane[0];
  vf inverse = vf_set(peak > 0 ? 127 / peak : 0);
  vi sum = {0};
  for (int j = 0; j < QUANT_BLOCK; j += VL) {
    vi rounded = (vi)(vf_load(x + j) * inverse + shift) - 0x4b400000;
    sum += rounded;
    *(bytes *)(q + j) = __builtin_convertvector(rounded, bytes);
  }
  int32_t total = 0;
  for (int j = 0; j < VL; j++) total += sum[j];
  *scale = peak / 127;
  return total;
}

static inline void quantize_row(quantized_row row, const float *x, ptrdiff_t blocks, int offset) {
  __builtin_memset(row.q, 0, quantized_row_bytes(blocks));
  for (ptrdiff_t b = 0; b < blocks; b++)
    row.correction[b * DOT_LANES] = -offset * quantize_block(row.q + b * QUANT_BLOCK, row.scale + b, x + b * QUANT_BLOCK);
}

#if defined(__AVX512VNNI__)

// 32 elements of each of two blocks as unsigned bytes; the second is zero when absent.
static inline __m512i load_pair(const char *first, int quant4, int has_second) {
  if (quant4) {
    const block_q4_0 *block = (const block_q4_0 *)first;
    __m128i low = _mm_loadu_si128((const __m128i *)block[0].q);
    __m128i high = has_second ? _mm_loadu_si128((const __m128i *)block[1].q) : _mm_setzero_si128();
    __m256i packed = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    __m512i twice = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), _mm512_castsi256_si512(packed));
    return _mm512_and_si512(_mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4)), _mm512_set1_epi8(15));
  }
  const block_q8_0 *block = (const block_q8_0 *)first;
  __m256i low = _mm256_loadu_si256((const __m256i *)block[0].q);
  __m256i high = has_second ? _mm256_loadu_si256((const __m256i *)block[1].q) : _mm256_setzero_si256();
  return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1), _mm512_set1_epi8((char)Q8_OFFSET));
}

// Scales of SCALE_GROUP blocks, those from `count` on zero.
static inline __m512 load_scales(const char *first, size_t block_bytes, ptrdiff_t count) {
#define SCALE(j) (count > (j) ? *(const short *)(first + (j) * block_bytes) : 0)
  return _mm512_cvtph_ps(_mm256_setr_epi16(SCALE(0), SCALE(1), SCALE(2), SCALE(3), SCALE(4), SCALE(5), SCALE(6), SCALE(7),
    SCALE(8), SCALE(9), SCALE(10), SCALE(11), SCALE(12), SCALE(13), SCALE(14), SCALE(15)));
#undef SCALE
}

// acc[r] += the products of up to SCALE_GROUP blocks of each weight row, `count` of them, with the activations' from `b` on.
static inline __attribute__((always_inline)) void dot_group(__m512 acc[DOT_ROWS], const char *weight, size_t row_bytes, int rows, quantized_row x, ptrdiff_t b, ptrdiff_t count, int quant4) {
  size_t block_bytes = quant4 ? sizeof(block_q4_0) : sizeof(block_q8_0);
  __m512 scale[DOT_ROWS], scale_x = _mm512_loadu_ps(x.scale + b);
  for (int r = 0; r < rows; r++)
    scale[r] = _mm512_mul_ps(load_scales(weight + (size_t)r * row_bytes, block_bytes, count), scale_x);
  __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
#pragma GCC unroll 8
  for (int pair = 0; pair < SCALE_GROUP / 2; pair++) {
    if (2 * pair >= count) break;
    __m512i q = _mm512_loadu_si512(x.q + (b + 2 * pair) * QUANT_BLOCK);
    __m512i correction = _mm512_loadu_si512(x.correction + (b + 2 * pair) * DOT_LANES);
    __m512i lanes = _mm512_add_epi32(spread, _mm512_set1_epi32(2 * pair));
    for (int r = 0; r < rows; r++) {
      __m512i w = load_pair(weight + (size_t)r * row_bytes + (size_t)(2 * pair) * block_bytes, quant4, 2 * pair + 1 < count);
      __m512 sum = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(correction, w, q));
      acc[r] = _mm512_fmadd_ps(sum, _mm512_permutexvar_ps(lanes, scale[r]), acc[r]);
    }
  }
}

// out[r] = the dot products of `rows` (at most DOT_ROWS) weight rows with x.
static inline __attribute__((always_inline)) void dot_rows(float *out, const char *weight, size_t row_bytes, int rows, quantized_row x, ptrdiff_t blocks, int quant4) {
  size_t block_bytes = quant4 ? sizeof(block_q4_0) : sizeof(block_q8_0);
  __m512 acc[DOT_ROWS];
  for (int r = 0; r < rows; r++) acc[r] = _mm512_setzero_ps();
  ptrdiff_t b = 0;
  for (; b + SCALE_GROUP <= blocks; b += SCALE_GROUP, weight += SCALE_GROUP * block_bytes) {
    const char *ahead = weight + DOT_ROWS * row_bytes;
    for (int r = 0; r < rows; r++)
      for (size_t line = 0; line < SCALE_GROUP * block_bytes; line += 64) __builtin_prefetch(ahead + (size_t)r * row_bytes + line);
    dot_group(acc, weight, row_bytes, rows, x, b, SCALE_GROUP, quant4);
  }
  if (b < blocks) dot_group(acc, weight, row_bytes, rows, x, b, blocks - b, quant4);
  for (int r = 0; r < rows; r++) out[r] = vf_sum((vf)acc[r]);
}

#else

typedef int32_t dot_sums __attribute__((vector_size(4 * DOT_LANES)));
typedef float dot_floats __attribute__((vector_size(4 * DOT_LANES)));
typedef int32_t dot_sums_unaligned __attribute__((vector_size(4 * DOT_LANES), aligned(4), may_alias));

#if defined(__AVX2__)

static inline dot_sums dot_block(const char *weight, const int8_t *q, dot_sums sums, int quant4) {
  __m256i x = _mm256_loadu_si256((const __m256i *)q), products;
  if (quant4) {
    __m128i packed = _mm_loadu_si128((const __m128i *)((const block_q4_0 *)weight)->q);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1);
    products = _mm256_maddubs_epi16(_mm256_and_si256(both, _mm256_set1_epi8(15)), x);
  } else {
    __m256i w = _mm256_loadu_si256((const __m256i *)((const block_q8_0 *)weight)->q);
    products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }
  return sums + (dot_sums)_mm256_madd_epi16(products, _mm256_set1_epi16(1));
}

#else

typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef i8x16 i8x16_unaligned __attribute__((aligned(1), may_alias));

// sums += w * x, sixteen products in lanes of four; x times an unsigned w of seven bits when `is_nibble`.
static inline dot_sums dot_bytes(i8x16 w, i8x16 x, dot_sums sums, int is_nibble) {
#if defined(__wasm_relaxed_simd__)
  if (is_nibble) return (dot_sums)__builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4((i8x16)x, (i8x16)w, sums);
#else
  (void)is_nibble;
#endif
#if defined(__ARM_FEATURE_DOTPROD)
  return (dot_sums)vdotq_s32((int32x4_t)sums, (int8x16_t)w, (int8x16_t)x);
#elif defined(__aarch64__)
  int32x4_t total = vpadalq_s16((int32x4_t)sums, vmull_s8(vget_low_s8((int8x16_t)w), vget_low_s8((int8x16_t)x)));
  return (dot_sums)vpadalq_s16(total, vmull_high_s8((int8x16_t)w, (int8x16_t)x));
#else
  typedef int16_t i16x8 __attribute__((vector_size(16)));
#define HALF(v, first) __builtin_convertvector(__builtin_shufflevector(v, v, first, first + 1, first + 2, first + 3, first + 4, first + 5, first + 6, first + 7), i16x8)
#if defined(__wasm__)
#define MULTIPLY_ADD(a, b) (dot_sums)__builtin_wasm_dot_s_i32x4_i16x8(a, b)
#else
#define MULTIPLY_ADD(a, b) (dot_sums)__builtin_ia32_pmaddwd128(a, b)
#endif
  return sums + MULTIPLY_ADD(HALF(w, 0), HALF(x, 0)) + MULTIPLY_ADD(HALF(w, 8), HALF(x, 8));
#endif
}

static inline dot_sums dot_block(const char *weight, const int8_t *q, dot_sums sums, int quant4) {
  i8x16 x0 = *(const i8x16_unaligned *)q, x1 = *(const i8x16_unaligned *)(q + 16);
  if (quant4) {
    u8x16 packed = (u8x16)*(const i8x16_unaligned *)((const block_q4_0 *)weight)->q;
    return dot_bytes((i8x16)(packed >> 4), x1, dot_bytes((i8x16)(packed & 15), x0, sums, 1), 1);
  }
  const int8_t *w = ((const block_q8_0 *)weight)->q;
  return dot_bytes(*(const i8x16_unaligned *)(w + 16), x1, dot_bytes(*(const i8x16_unaligned *)w, x0, sums, 0), 0);
}

#endif

// out[r] = the dot products of `rows` (at most DOT_ROWS) weight rows with x.
static inline __attribute__((always_inline)) void dot_rows(float *out, const char *weight, size_t row_bytes, int rows, quantized_row x, ptrdiff_t blocks, int quant4) {
  size_t block_bytes = quant4 ? sizeof(block_q4_0) : sizeof(block_q8_0);
  dot_floats acc[DOT_ROWS];
  for (int r = 0; r < rows; r++) acc[r] = (dot_floats){0};
  for (ptrdiff_t b = 0; b < blocks; b++, weight += block_bytes) {
    dot_sums correction = *(const dot_sums_unaligned *)(x.correction + b * DOT_LANES);
    for (int r = 0; r < rows; r++) {
      const char *block = weight + (size_t)r * row_bytes;
      dot_sums sums = dot_block(block, x.q + b * QUANT_BLOCK, correction, quant4);
      acc[r] += __builtin_convertvector(sums, dot_floats) * (x.scale[b] * f16_to_f32(*(const uint16_t *)block));
    }
  }
  for (int r = 0; r < rows; r++) {
    float sum = 0;
    for (int j = 0; j < DOT_LANES; j++) sum += acc[r][j];
    out[r] = sum;
  }
}

#endif

#endif
