// Conversion between element types, and llama.cpp's q8_0 and q4_0 blocks, byte for byte as its reference code has them.

#include "elements.cuh"

// x rounded to nearest even; every NaN becomes the same one.
template <typename T>
DEVICE T rounded(float x);
template <>
DEVICE float rounded<float>(float x) { return x; }
template <>
DEVICE bf16 rounded<bf16>(float x) { return x == x ? from_float<bf16>(x) : bf16{0x7fc0}; }
template <>
DEVICE f16 rounded<f16>(float x) { return x == x ? from_float<f16>(x) : f16{0x7e00}; }

// A thread converts 8 elements.
template <typename T>
DEVICE void cast_elements(T *dst, const void *src, int src_dtype, int count) {
  size_t at = grid_thread() * DECODED;
  if (at >= (size_t)count) return;
  int left = count - at < DECODED ? (int)(count - at) : DECODED;
  float x[DECODED];
  decode_elements(x, src, src_dtype, at, left);
  bool packed = left == DECODED && (uintptr_t)dst % 16 == 0;
#pragma unroll
  for (int i = 0; i < DECODED; i += Pack<T>::WIDTH) {
    Pack<T> pack = {{0, 0, 0, 0}};
#pragma unroll
    for (int j = 0; j < Pack<T>::WIDTH; j++) pack.set(j, rounded<T>(x[i + j]));
    store_pack(dst + at, i, left, packed, pack);
  }
}

extern "C" __global__ void cast_f32(float *dst, const void *src, int src_dtype, int count) { cast_elements(dst, src, src_dtype, count); }
extern "C" __global__ void cast_bf16(bf16 *dst, const void *src, int src_dtype, int count) { cast_elements(dst, src, src_dtype, count); }
extern "C" __global__ void cast_f16(f16 *dst, const void *src, int src_dtype, int count) { cast_elements(dst, src, src_dtype, count); }

DEVICE float reciprocal(float d) { return d != 0 ? 1 / d : 0; }

DEVICE void read_block(float *x, const void *src, int src_dtype, size_t block) {
#pragma unroll
  for (int j = 0; j < QUANT_BLOCK; j += DECODED) decode_elements(x + j, src, src_dtype, block * QUANT_BLOCK + j, DECODED);
}

// q = x / d to the nearest integer, halves away from zero, with d = max |x| / 127. A thread a block.
extern "C" __global__ void quantize_q8_0(block_q8_0 *dst, const void *src, int src_dtype, int blocks) {
  size_t block = grid_thread();
  if (block >= (size_t)blocks) return;
  float x[QUANT_BLOCK], greatest = 0;
  read_block(x, src, src_dtype, block);
#pragma unroll
  for (int j = 0; j < QUANT_BLOCK; j++) greatest = fmaxf(greatest, fabsf(x[j]));
  float d = greatest / 127, inverse = reciprocal(d);
  dst[block].scale = f16_bits(d);
#pragma unroll
  for (int j = 0; j < QUANT_BLOCK; j++) {
    float scaled = fmaxf(-127.0f, fminf(127.0f, x[j] * inverse));
    int whole = (int)scaled;
    float rest = scaled - (float)whole;
    dst[block].q[j] = (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
  }
}

// x / d + 8 to the nearest integer from 0 to 15. Bounding the product before the addition also keeps the compiler from
// fusing them, which would round differently.
DEVICE int nibble_of(float x, float inverse) { return (int)(fmaxf(-8.0f, fminf(7.0f, x * inverse)) + 8.5f); }

// d = (the x of greatest magnitude, the first of several) / -8. A thread a block.
extern "C" __global__ void quantize_q4_0(block_q4_0 *dst, const void *src, int src_dtype, int blocks) {
  constexpr int HALF = QUANT_BLOCK / 2;
  size_t block = grid_thread();
  if (block >= (size_t)blocks) return;
  float x[QUANT_BLOCK], extreme = 0;
  read_block(x, src, src_dtype, block);
#pragma unroll
  for (int j = 0; j < QUANT_BLOCK; j++)
    if (fabsf(x[j]) > fabsf(extreme)) extreme = x[j];
  float d = extreme / -8, inverse = reciprocal(d);
  dst[block].scale = f16_bits(d);
#pragma unroll
  for (int j = 0; j < HALF; j++) dst[block].q[j] = (uint8_t)(nibble_of(x[j], inverse) | nibble_of(x[HALF + j], inverse) << 4);
}
