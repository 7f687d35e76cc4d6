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

static inline float f16_to_f32(uint16_t half) { return vf_from_f16((vh){half})[0]; }
static inline uint16_t f32_to_f16(float value) { return vf_to_f16((vf){value})[0]; }
static inline float bf16_to_f32(uint16_t half) { return vf_from_bf16((vh){half})[0]; }

// VL signed bytes as f32.
static inline vf vf_from_i8(const int8_t *p) {
  typedef int8_t bytes __attribute__((vector_size(VL), aligned(1), may_alias));
  return __builtin_convertvector(*(const bytes *)p, vf);
}

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
    case TL_Q8_0: {
      const block_q8_0 *block = (const block_q8_0 *)src + first / QUANT_BLOCK;
      for (size_t done = 0; done < count; done += QUANT_BLOCK, block++) {
        vf scale = vf_set(f16_to_f32(block->scale));
        for (int j = 0; j < QUANT_BLOCK; j += VL) vf_store(dst + done + j, scale * vf_from_i8(block->q + j));
      }
      return;
    }
    default: {
      const block_q4_0 *block = (const block_q4_0 *)src + first / QUANT_BLOCK;
      typedef uint8_t half_block __attribute__((vector_size(16), aligned(1), may_alias));
      typedef int8_t signed_block __attribute__((vector_size(16)));
      for (size_t done = 0; done < count; done += QUANT_BLOCK, block++) {
        vf scale = vf_set(f16_to_f32(block->scale));
        half_block packed = *(const half_block *)block->q;
        union {
          signed_block half[2];
          int8_t q[QUANT_BLOCK];
        } nibbles = {{(signed_block)(packed & 15) - 8, (signed_block)(packed >> 4) - 8}};
        for (int j = 0; j < QUANT_BLOCK; j += VL) vf_store(dst + done + j, scale * vf_from_i8(nibbles.q + j));
      }
    }
  }
}

#endif
