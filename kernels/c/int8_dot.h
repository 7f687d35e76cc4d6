// Dot products of a quantized weight row with a few rows of activations quantized to 8 bits per block of 32: the weights
// are unpacked once for all of them. One implementation per instruction set. Used by matvec.c and, where there is VNNI,
// by gemm_int8.h.

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
enum { DOT_COLUMNS = 4, SCALE_GROUP = 16 };

// One quantized row of activations. Each array is padded with zeros to whole groups of SCALE_GROUP blocks.
typedef struct {
  int8_t *q;         // QUANT_BLOCK per block, in halves placed by half_place
  float *scale;      // one per block
  float *correction; // one per block: minus the weights' offset times the sum of q
} quantized_row;

static inline ptrdiff_t padded_blocks(ptrdiff_t blocks) { return (blocks + SCALE_GROUP - 1) / SCALE_GROUP * SCALE_GROUP; }

// Bytes of one quantized_row's arrays.
static inline size_t quantized_row_bytes(ptrdiff_t blocks) { return (size_t)padded_blocks(blocks) * (QUANT_BLOCK + 2 * sizeof(float)); }

static inline quantized_row quantized_row_at(void *memory, ptrdiff_t blocks) {
  ptrdiff_t padded = padded_blocks(blocks);
  quantized_row row = {memory, 0, 0};
  row.scale = (float *)(row.q + padded * QUANT_BLOCK);
  row.correction = row.scale + padded;
  return row;
}

// Where half `half` of block b lies. VNNI takes the low nibbles of four blocks at once, then the high ones.
static inline ptrdiff_t half_place(ptrdiff_t b, int half, int quant4) {
#if defined(__AVX512VNNI__)
  if (quant4) return b / 4 * 4 * QUANT_BLOCK + half * 64 + b % 4 * 16;
#else
  (void)quant4;
#endif
  return b * QUANT_BLOCK + half * 16;
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

static inline void quantize_row(quantized_row row, const float *x, ptrdiff_t blocks, int quant4) {
  __builtin_memset(row.q, 0, quantized_row_bytes(blocks));
  for (ptrdiff_t b = 0; b < blocks; b++) {
    int8_t q[QUANT_BLOCK];
    int32_t sum = quantize_block(q, row.scale + b, x + b * QUANT_BLOCK);
    row.correction[b] = (float)(-(quant4 ? 8 : Q8_OFFSET) * sum);
    for (int half = 0; half < 2; half++) __builtin_memcpy(row.q + half_place(b, half, quant4), q + half * 16, 16);
  }
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

// Scales of SCALE_GROUP blocks, picked out of whole vectors.
static inline __m512 load_group_scales(const char *first, int quant4) {
  __m128i part[4];
  if (quant4) {
    const __m512i places = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 36, 45, 54, 63));
    for (int j = 0; j < 2; j++) {
      const char *at = first + (size_t)j * 8 * sizeof(block_q4_0);
      part[j] = _mm512_castsi512_si128(_mm512_permutex2var_epi16(_mm512_loadu_si512(at), places, _mm512_loadu_si512(at + 64)));
    }
    return _mm512_cvtph_ps(_mm256_set_m128i(part[1], part[0]));
  }
  const __m512i places = _mm512_castsi128_si512(_mm_setr_epi16(0, 17, 34, 51, 0, 0, 0, 0));
  for (int j = 0; j < 4; j++) {
    const char *at = first + (size_t)j * 4 * sizeof(block_q8_0);
    part[j] = _mm512_castsi512_si128(_mm512_permutex2var_epi16(_mm512_loadu_si512(at), places, _mm512_loadu_si512(at + 64)));
  }
  return _mm512_cvtph_ps(_mm256_set_m128i(_mm_unpacklo_epi64(part[2], part[3]), _mm_unpacklo_epi64(part[0], part[1])));
}

// acc += the products of SCALE_GROUP blocks of a weight row with the activations' from `b` on.
static inline __attribute__((always_inline)) void dot_group(__m512 acc[DOT_COLUMNS][2], const char *weight, const quantized_row *x, int columns, ptrdiff_t b, int quant4) {
  __m512 scale[DOT_COLUMNS], scale_w = load_group_scales(weight, quant4);
  for (int c = 0; c < columns; c++) {
    scale[c] = _mm512_mul_ps(scale_w, _mm512_loadu_ps(x[c].scale + b));
    if (quant4 || Q8_OFFSET) acc[c][0] = _mm512_fmadd_ps(scale[c], _mm512_loadu_ps(x[c].correction + b), acc[c][0]);
  }
  if (quant4) {
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int four = 0; four < SCALE_GROUP; four += 4) {
      const block_q4_0 *block = (const block_q4_0 *)weight + four;
      __m512i packed = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)block[0].q));
      packed = _mm512_inserti32x4(packed, _mm_loadu_si128((const __m128i *)block[1].q), 1);
      packed = _mm512_inserti32x4(packed, _mm_loadu_si128((const __m128i *)block[2].q), 2);
      packed = _mm512_inserti32x4(packed, _mm_loadu_si128((const __m128i *)block[3].q), 3);
      __m512i w0 = _mm512_and_si512(packed, low), w1 = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low);
      for (int c = 0; c < columns; c++) {
        const int8_t *q = x[c].q + (b + four) * QUANT_BLOCK;
        __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w0, _mm512_loadu_si512(q));
        sum = _mm512_dpbusd_epi32(sum, w1, _mm512_loadu_si512(q + 64));
        __m512 spread_scale = _mm512_permutexvar_ps(_mm512_add_epi32(spread, _mm512_set1_epi32(four)), scale[c]);
        acc[c][four / 4 % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), spread_scale, acc[c][four / 4 % 2]);
      }
    }
    return;
  }
  const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
#pragma GCC unroll 8
  for (int two = 0; two < SCALE_GROUP; two += 2) {
    __m512i w = load_pair(weight + (size_t)two * sizeof(block_q8_0), 0, 1);
    for (int c = 0; c < columns; c++) {
      __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, _mm512_loadu_si512(x[c].q + (b + two) * QUANT_BLOCK));
      __m512 spread_scale = _mm512_permutexvar_ps(_mm512_add_epi32(spread, _mm512_set1_epi32(two)), scale[c]);
      acc[c][two / 2 % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), spread_scale, acc[c][two / 2 % 2]);
    }
  }
}

// out[c] = the dot product of a weight row with x[c].
static inline __attribute__((always_inline)) void dot_columns(float *out, const char *weight, const quantized_row *x, int columns, ptrdiff_t blocks, int quant4) {
  size_t block_bytes = quant4 ? sizeof(block_q4_0) : sizeof(block_q8_0);
  __m512 acc[DOT_COLUMNS][2];
  for (int c = 0; c < columns; c++) acc[c][0] = acc[c][1] = _mm512_setzero_ps();
  ptrdiff_t b = 0;
  for (; b + SCALE_GROUP <= blocks; b += SCALE_GROUP, weight += SCALE_GROUP * block_bytes) dot_group(acc, weight, x, columns, b, quant4);
  if (b < blocks) {
    char last[SCALE_GROUP * sizeof(block_q8_0)] = {0}; // blocks beyond the row have the scale 0
    __builtin_memcpy(last, weight, (size_t)(blocks - b) * block_bytes);
    dot_group(acc, last, x, columns, b, quant4);
  }
  for (int c = 0; c < columns; c++) out[c] = vf_sum((vf)_mm512_add_ps(acc[c][0], acc[c][1]));
}

#else

typedef int32_t dot_sums __attribute__((vector_size(4 * DOT_LANES)));
typedef float dot_floats __attribute__((vector_size(4 * DOT_LANES)));

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

// acc += the products of one block.
static inline __attribute__((always_inline)) void dot_one(dot_floats acc[DOT_COLUMNS][2], float offsets[DOT_COLUMNS], const char *block, const quantized_row *x, int columns, ptrdiff_t b, int part, int quant4) {
  float scale = f16_to_f32(*(const uint16_t *)block);
  for (int c = 0; c < columns; c++) {
    float both = x[c].scale[b] * scale;
    dot_sums sums = dot_block(block, x[c].q + b * QUANT_BLOCK, (dot_sums){0}, quant4);
    acc[c][part] += __builtin_convertvector(sums, dot_floats) * both;
    if (quant4) offsets[c] += x[c].correction[b] * both;
  }
}

// out[c] = the dot product of a weight row with x[c].
static inline __attribute__((always_inline)) void dot_columns(float *out, const char *weight, const quantized_row *x, int columns, ptrdiff_t blocks, int quant4) {
  size_t block_bytes = quant4 ? sizeof(block_q4_0) : sizeof(block_q8_0);
  dot_floats acc[DOT_COLUMNS][2];
  float offsets[DOT_COLUMNS];
  for (int c = 0; c < columns; c++) acc[c][0] = acc[c][1] = (dot_floats){0}, offsets[c] = 0;
  ptrdiff_t b = 0;
  for (; b + 2 <= blocks; b += 2, weight += 2 * block_bytes) {
    dot_one(acc, offsets, weight, x, columns, b, 0, quant4);
    dot_one(acc, offsets, weight + block_bytes, x, columns, b + 1, 1, quant4);
  }
  if (b < blocks) dot_one(acc, offsets, weight, x, columns, b, 0, quant4);
  for (int c = 0; c < columns; c++) {
    dot_floats total = acc[c][0] + acc[c][1];
    float sum = offsets[c];
    for (int j = 0; j < DOT_LANES; j++) sum += total[j];
    out[c] = sum;
  }
}

#endif

#endif
