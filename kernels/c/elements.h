// Reading weights of any element type as f32, and the block layouts of lib/core/dtype.ts. Not for activations.

#ifndef TINYLLAMA_ELEMENTS_H
#define TINYLLAMA_ELEMENTS_H

#include "kernels.h"
#include "simd.h"

enum { QUANT_BLOCK = 32 };

typedef struct {
  uint16_t scale; // f16
  int8_t q[QUANT_BLOCK];
} block_q8_0;

typedef struct {
  uint16_t scale;             // f16
  uint8_t q[QUANT_BLOCK / 2]; // byte j: element j low, element j + 16 high, both plus 8
} block_q4_0;

// Bytes of `count` consecutive elements; whole blocks only.
static inline size_t element_bytes(int dtype, size_t count) {
  switch (dtype) {
    case TL_F32: return count * 4;
    case TL_Q8_0: return count / QUANT_BLOCK * sizeof(block_q8_0);
    case TL_Q4_0: return count / QUANT_BLOCK * sizeof(block_q4_0);
    default: return count * 2;
  }
}

static inline float f16_to_f32(uint16_t half) {
#if defined(__F16C__) || defined(__aarch64__)
  return vf_from_f16((vh){half})[0];
#else
  // As vf_from_f16, beside the vector units.
  uint32_t magnitude = half & 0x7fff, sign = (uint32_t)(half & 0x8000) << 16;
  union {
    uint32_t bits;
    float value;
  } scaled = {magnitude << 13};
  scaled.value *= 0x1p112f;
  uint32_t special = magnitude << 13 | 0x7f800000;
  scaled.bits = sign | (magnitude >= 0x7c00 ? special : scaled.bits);
  return scaled.value;
#endif
}
static inline uint16_t f32_to_f16(float value) { return vf_to_f16((vf){value})[0]; }
static inline float bf16_to_f32(uint16_t half) { return vf_from_bf16((vh){half})[0]; }

// VL signed bytes as f32.
static inline vf vf_from_i8(const int8_t *p) {
  typedef int8_t bytes __attribute__((vector_size(VL), aligned(1), may_alias));
  return __builtin_convertvector(*(const bytes *)p, vf);
}

// Half a block of signed bytes.
typedef int8_t half_block __attribute__((vector_size(16)));

// A half block as f32, in 16 / VL vectors.
static inline void vf_from_half_block(vf *out, half_block q) {
#if VL == 16
  *out = __builtin_convertvector(q, vf);
#else
  typedef int16_t words __attribute__((vector_size(16)));
  words part[2] = {
    __builtin_convertvector(__builtin_shufflevector(q, q, 0, 1, 2, 3, 4, 5, 6, 7), words),
    __builtin_convertvector(__builtin_shufflevector(q, q, 8, 9, 10, 11, 12, 13, 14, 15), words),
  };
  for (int j = 0; j < 2; j++) {
#if VL == 8
    out[j] = __builtin_convertvector(part[j], vf);
#else
    out[2 * j] = __builtin_convertvector(__builtin_shufflevector(part[j], part[j], 0, 1, 2, 3), vf);
    out[2 * j + 1] = __builtin_convertvector(__builtin_shufflevector(part[j], part[j], 4, 5, 6, 7), vf);
#endif
  }
#endif
}

// The integers of a block as f32, without its scale.
static inline __attribute__((always_inline)) void unpack_block(vf out[QUANT_BLOCK / VL], const void *block, int dtype) {
  half_block half[2];
  if (dtype == TL_Q8_0) {
    __builtin_memcpy(half, ((const block_q8_0 *)block)->q, QUANT_BLOCK);
  } else {
    typedef uint8_t nibbles __attribute__((vector_size(16)));
    nibbles packed;
    __builtin_memcpy(&packed, ((const block_q4_0 *)block)->q, sizeof packed);
    half[0] = (half_block)(packed & 15) - 8;
    half[1] = (half_block)(packed >> 4) - 8;
  }
  for (int h = 0; h < 2; h++) vf_from_half_block(out + h * (16 / VL), half[h]);
}

static inline vf block_scale(const void *block) { return vf_set(f16_to_f32(*(const uint16_t *)block)); }

// Decodes elements [first, first + count) of the array at src; for the block types both are multiples of QUANT_BLOCK.
static inline void decode_elements(float *dst, const void *src, int dtype, size_t first, size_t count) {
  switch (dtype) {
    case TL_F32:
      __builtin_memcpy(dst, (const float *)src + first, count * 4);
      return;
    case TL_BF16:
    case TL_F16: {
      const uint16_t *from = (const uint16_t *)src + first;
      size_t j = 0;
      if (dtype == TL_BF16) {
        for (; j + VL <= count; j += VL) vf_store(dst + j, vf_from_bf16(vh_load(from + j)));
        for (; j < count; j++) dst[j] = bf16_to_f32(from[j]);
      } else {
        for (; j + VL <= count; j += VL) vf_store(dst + j, vf_from_f16(vh_load(from + j)));
        for (; j < count; j++) dst[j] = f16_to_f32(from[j]);
      }
      return;
    }
    default: {
      const char *block = (const char *)src + element_bytes(dtype, first);
      for (size_t done = 0; done < count; done += QUANT_BLOCK, block += element_bytes(dtype, QUANT_BLOCK)) {
        vf scale = block_scale(block), w[QUANT_BLOCK / VL];
        unpack_block(w, block, dtype);
        for (int j = 0; j < QUANT_BLOCK / VL; j++) vf_store(dst + done + (size_t)j * VL, scale * w[j]);
      }
    }
  }
}

#endif
