// Vectors of the build's natural width, written with the compiler's vector extensions: 64 bytes (AVX-512), 32 (AVX2),
// 16 (NEON, WASM SIMD, SSE2). Everything width-dependent is a constant here, so kernels are written once.

#ifndef TINYLLAMA_SIMD_H
#define TINYLLAMA_SIMD_H

#include <stdint.h>

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
typedef float vf_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

static inline vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
static inline void vf_store(float *p, vf x) { *(vf_unaligned *)p = x; }
static inline vf vf_set(float x) { return x - (vf){0}; }

// a * b + c; fused where the instruction set has it (relaxed in WASM).
static inline vf vf_fma(vf a, vf b, vf c) {
#if defined(__wasm_relaxed_simd__)
  return (vf)__builtin_wasm_relaxed_madd_f32x4(a, b, c);
#else
  return a * b + c; // contracted by -ffp-contract=fast
#endif
}

// Sum of the lanes, pairwise, in a fixed order.
static inline float vf_sum(vf x) {
  float lane[VL];
  vf_store(lane, x);
  for (int width = VL / 2; width > 0; width /= 2)
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  return lane[0];
}

#endif
