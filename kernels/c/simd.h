// Vectors of the build's natural width, written with the compiler's vector extensions: 64 bytes (AVX-512), 32 (AVX2),
// 16 (NEON, WASM SIMD, SSE2). Everything width-dependent is a constant here, so kernels are written once.

#ifndef TINYLLAMA_SIMD_H
#define TINYLLAMA_SIMD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define VL (VECTOR_BYTES / 4) // f32 lanes

typedef float vf __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vi __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t vu __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t vh __attribute__((vector_size(VECTOR_BYTES / 2))); // 16-bit lanes, as many as f32 lanes
typedef float vf_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef uint16_t vh_unaligned __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));

static inline vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
static inline void vf_store(float *p, vf x) { *(vf_unaligned *)p = x; }
static inline vf vf_set(float x) { return x - (vf){0}; }
// The first `count` lanes, all if there are more; lanes behind them are 0, and nothing behind them is touched in memory.
static inline vf vf_load_first(const float *p, ptrdiff_t count) {
  if (count >= VL) return vf_load(p);
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#else
  float lane[VL] = {0};
  for (ptrdiff_t j = 0; j < count; j++) lane[j] = p[j];
  return vf_load(lane);
#endif
}

static inline void vf_store_first(float *p, vf x, ptrdiff_t count) {
  if (count >= VL) {
    vf_store(p, x);
    return;
  }
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)x);
#else
  for (ptrdiff_t j = 0; j < count; j++) p[j] = x[j];
#endif
}

static inline vh vh_load(const uint16_t *p) { return *(const vh_unaligned *)p; }
static inline void vh_store(uint16_t *p, vh x) { *(vh_unaligned *)p = x; }

// a * b + c; fused where the instruction set has it (relaxed in WASM).
static inline vf vf_fma(vf a, vf b, vf c) {
#if defined(__wasm_relaxed_simd__)
  return (vf)__builtin_wasm_relaxed_madd_f32x4(a, b, c);
#else
  return a * b + c; // contracted by -ffp-contract=fast
#endif
}

// A vector as parts of four lanes, for work across lanes.
typedef float vf_quad __attribute__((vector_size(16)));
typedef union {
  vf whole;
  vf_quad quad[VECTOR_BYTES / 16];
} vf_quads;

// Sum of the lanes, pairwise, in a fixed order.
static inline float vf_sum(vf x) {
  vf_quads parts = {x};
#if VECTOR_BYTES == 64
  vf_quad sum = (parts.quad[0] + parts.quad[2]) + (parts.quad[1] + parts.quad[3]);
#elif VECTOR_BYTES == 32
  vf_quad sum = parts.quad[0] + parts.quad[1];
#else
  vf_quad sum = parts.quad[0];
#endif
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

static inline vf vf_from_bf16(vh x) { return (vf)(__builtin_convertvector(x, vu) << 16); }

// The bits of x rounded to bf16 (to nearest even), still in the high half; a NaN stays one.
static inline vu vu_round_bf16(vf x) {
  vu bits = (vu)x;
  vu rounded = bits + 0x7fff + (bits >> 16 & 1);
  vu is_nan = (vu)((bits & 0x7fffffff) > 0x7f800000);
  return ((is_nan & (bits | 0x400000)) | (~is_nan & rounded)) & 0xffff0000;
}

static inline vh vf_to_bf16(vf x) { return __builtin_convertvector(vu_round_bf16(x) >> 16, vh); }

static inline vf vf_from_f16(vh x) {
#if defined(__AVX512F__)
  return (vf)_mm512_cvtph_ps((__m256i)x);
#elif defined(__F16C__)
  return (vf)_mm256_cvtph_ps((__m128i)x);
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16((float16x4_t)x);
#else
  vu bits = __builtin_convertvector(x, vu);
  vu magnitude = bits & 0x7fff;
  vu value = (vu)((vf)(magnitude << 13) * 0x1p112f); // exact, subnormals included
  vu special = (vu)(magnitude >= 0x7c00);
  return (vf)((bits & 0x8000) << 16 | (~special & value) | (special & (magnitude << 13 | 0x7f800000)));
#endif
}

static inline vh vf_to_f16(vf x) {
#if defined(__AVX512F__)
  return (vh)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (vh)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
  return (vh)vcvt_f16_f32((float32x4_t)x);
#else
  vu bits = (vu)x & 0x7fffffff;
  vu normal = (bits + 0xc8000fff + (bits >> 13 & 1)) >> 13;    // exponent bias 127 -> 15, to nearest even
  vu subnormal = (vu)((vf)bits + 0.5f) - 0x3f000000;           // the addition rounds at 2^-24
  vu special = 0x7c00 | ((vu)(bits > 0x7f800000) & 0x0200);    // infinity, or a NaN
  vu is_small = (vu)(bits < 0x38800000), is_large = (vu)(bits >= 0x47800000);
  vu half = (is_small & subnormal) | (~is_small & ~is_large & normal) | (is_large & special);
  return __builtin_convertvector(half | ((vu)x >> 16 & 0x8000), vh);
#endif
}

#endif
