// What the C library has for single floats, for vectors: maximum, minimum, square root, exp, silu; and a logarithm. No libm, which
// the WASM build lacks, so every build has the same polynomials.

#ifndef TINYLLAMA_VECTOR_MATH_H
#define TINYLLAMA_VECTOR_MATH_H

#include "simd.h"

#if defined(__SSE2__) && !defined(__AVX2__)
#include <emmintrin.h>
#endif

// Lanes of `a` where the mask (0 or -1) is set, of `b` elsewhere.
static inline vf vf_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }

// The greater of both; a NaN in `a` stays, one in `b` is dropped (NEON: stays).
static inline vf vf_max(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)b, (__m512)a);
#elif defined(__AVX2__)
  return (vf)_mm256_max_ps((__m256)b, (__m256)a);
#elif defined(__SSE2__)
  return (vf)_mm_max_ps((__m128)b, (__m128)a);
#elif defined(__aarch64__)
  return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#elif defined(__wasm_simd128__)
  return (vf)__builtin_wasm_pmax_f32x4(a, b);
#else
  return vf_select((vi)(b > a), b, a);
#endif
}

// The lesser of both; NaN as in vf_max.
static inline vf vf_min(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)b, (__m512)a);
#elif defined(__AVX2__)
  return (vf)_mm256_min_ps((__m256)b, (__m256)a);
#elif defined(__SSE2__)
  return (vf)_mm_min_ps((__m128)b, (__m128)a);
#elif defined(__aarch64__)
  return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b);
#elif defined(__wasm_simd128__)
  return (vf)__builtin_wasm_pmin_f32x4(a, b);
#else
  return vf_select((vi)(b < a), b, a);
#endif
}

static inline vf vf_sqrt(vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  return (vf)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
  return (vf)vsqrtq_f32((float32x4_t)x);
#elif defined(__wasm_simd128__)
  return (vf)__builtin_wasm_sqrt_f32x4(x);
#else
  for (int j = 0; j < VL; j++) x[j] = __builtin_sqrtf(x[j]);
  return x;
#endif
}

static inline vf_quad quad_max(vf_quad a, vf_quad b) {
#if defined(__SSE2__)
  return (vf_quad)_mm_max_ps((__m128)a, (__m128)b);
#else
  typedef int32_t mask __attribute__((vector_size(16)));
  mask less = (mask)(a < b);
  return (vf_quad)((less & (mask)b) | (~less & (mask)a));
#endif
}

// The greatest lane.
static inline float vf_max_lane(vf x) {
  vf_quads parts = {x};
  vf_quad most = parts.quad[0];
  for (int i = 1; i < VECTOR_BYTES / 16; i++) most = quad_max(most, parts.quad[i]);
  float even = most[0] > most[2] ? most[0] : most[2], odd = most[1] > most[3] ? most[1] : most[3];
  return even > odd ? even : odd;
}

// Whether any lane of a mask is set.
static inline int vi_any(vi mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)mask) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)mask) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32((uint32x4_t)mask) != 0;
#elif defined(__wasm_simd128__)
  return __builtin_wasm_any_true_v128(mask);
#else
  int any = 0;
  for (int j = 0; j < VL; j++) any |= mask[j];
  return any != 0;
#endif
}

// e^x with a relative error below 1e-7. Below -87.3365, where it would be subnormal, 0; above 88.376 infinity; a NaN
// stays one. With x = n ln 2 + r, |r| <= ln 2 / 2: 2^n (1 + r (1 + r q(r))), q fitted for the least relative error.
static inline vf vf_exp(vf x) {
  const vf magic = vf_set(0x1.8p23f + 127); // adding it leaves the nearest integer, plus 127, in the low bits
  vi vanishes = (vi)(x < -87.3365f);
  vf bounded = vf_min(x, vf_set(89));
  vf shifted = vf_fma(bounded, vf_set(0x1.715476p0f), magic);
  vf n = shifted - magic;
  vf r = vf_fma(n, vf_set(-0x1.63p-1f), bounded); // exact: ln 2 = 0x1.63p-1 - 2.1e-4
  r = vf_fma(n, vf_set(0x1.bd0106p-13f), r);
  vf q = vf_fma(r, vf_set(0x1.6a23d0p-10f), vf_set(0x1.123a20p-7f));
  q = vf_fma(q, r, vf_set(0x1.5558f2p-5f));
  q = vf_fma(q, r, vf_set(0x1.555492p-3f));
  q = vf_fma(q, r, vf_set(0x1.fffffcp-2f));
  vf power = vf_fma(vf_fma(q, r, vf_set(1)), r, vf_set(1));
  vf scale = (vf)((vi)shifted << 23); // 2^n; infinity for n = 128
  return (vf)(~vanishes & (vi)(power * scale));
}

// x / (1 + e^-x), and the sigmoid alone.
static inline vf vf_sigmoid(vf x) { return 1.0f / (1.0f + vf_exp(-x)); }
static inline vf vf_silu(vf x) { return x / (1.0f + vf_exp(-x)); }

// The natural logarithm to the last bits of a double, for use once a row: 2 atanh((m - 1) / (m + 1)) + e ln 2 with
// x = m 2^e, m between √½ and √2. Of 0 it is -infinity, of a negative number or a NaN a NaN. x is no subnormal.
static inline double log_of(double x) {
  if (!(x > 0)) return x == 0 ? -__builtin_inf() : __builtin_nan("");
  if (x == __builtin_inf()) return x;
  union {
    double value;
    uint64_t bits;
  } m = {x};
  int exponent = (int)(m.bits >> 52) - 1023;
  m.bits = (m.bits & 0x000fffffffffffff) | 0x3ff0000000000000;
  if (m.value > 1.4142135623730951) {
    m.value *= 0.5;
    exponent++;
  }
  double s = (m.value - 1) / (m.value + 1), square = s * s, term = s, sum = 0;
  for (int odd = 1; odd <= 23; odd += 2, term *= square) sum += term / odd;
  return 2 * sum + exponent * 0.69314718055994530942;
}

#endif
