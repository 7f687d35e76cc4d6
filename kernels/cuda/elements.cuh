// Reading weights of any element type as f32, and the block layouts of lib/core/dtype.ts.

#ifndef TINYLLAMA_ELEMENTS_CUH
#define TINYLLAMA_ELEMENTS_CUH

#include "device.cuh"

constexpr int QUANT_BLOCK = 32;
constexpr int DECODED = 8; // elements read at once

struct block_q8_0 {
  uint16_t scale; // f16
  int8_t q[QUANT_BLOCK];
};

struct block_q4_0 {
  uint16_t scale;             // f16
  uint8_t q[QUANT_BLOCK / 2]; // byte j: element j low, element j + 16 high, both plus 8
};

template <typename T>
DEVICE void decode_plain(float *x, const T *array, size_t at, int count) {
  bool packed = count == DECODED && (uintptr_t)(array + at) % 16 == 0;
#pragma unroll
  for (int i = 0; i < DECODED; i += Pack<T>::WIDTH) load_floats(x + i, array + at, i, count, packed);
}

// x = elements at ... at + 7 of an array, of which `count` are there. `at` is a multiple of 8 in the block types.
DEVICE void decode_elements(float *x, const void *array, int dtype, size_t at, int count) {
  if (dtype == F32) return decode_plain(x, (const float *)array, at, count);
  if (dtype == BF16) return decode_plain(x, (const bf16 *)array, at, count);
  if (dtype == F16) return decode_plain(x, (const f16 *)array, at, count);
  int first = (int)(at % QUANT_BLOCK);
  if (dtype == Q8_0) {
    const block_q8_0 *block = (const block_q8_0 *)array + at / QUANT_BLOCK;
    float scale = float_of_f16(block->scale);
#pragma unroll
    for (int i = 0; i < DECODED; i++) x[i] = scale * (float)block->q[first + i];
    return;
  }
  const block_q4_0 *block = (const block_q4_0 *)array + at / QUANT_BLOCK;
  float scale = float_of_f16(block->scale);
#pragma unroll
  for (int i = 0; i < DECODED; i++) {
    uint8_t pair = block->q[first % (QUANT_BLOCK / 2) + i];
    x[i] = scale * (float)((first < QUANT_BLOCK / 2 ? pair & 15 : pair >> 4) - 8);
  }
}

#endif
