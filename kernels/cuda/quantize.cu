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

constexpr int CONVERTED = 4; // elements of a thread at a time, so that lanes lie beside each other in f32 too
constexpr int GROUPS = 4;    // of them, on their way at once

// Elements at ... at + 3 of an array; of a plain one where IS_WHOLE all are there, at a multiple of their bytes.
template <bool IS_WHOLE, typename S>
DEVICE void load_four(float x[CONVERTED], const S *src, size_t at, int left) {
  if constexpr (IS_WHOLE) {
    uint2 words = *(const uint2 *)(src + at);
    S four[CONVERTED] = {{(uint16_t)words.x}, {(uint16_t)(words.x >> 16)}, {(uint16_t)words.y}, {(uint16_t)(words.y >> 16)}};
#pragma unroll
    for (int i = 0; i < CONVERTED; i++) x[i] = to_float(four[i]);
  } else {
#pragma unroll
    for (int i = 0; i < CONVERTED; i++) x[i] = i < left ? to_float(src[at + i]) : 0;
  }
}
template <bool IS_WHOLE>
DEVICE void load_four(float x[CONVERTED], const float *src, size_t at, int left) {
  load_floats(x, src + at, 0, left, IS_WHOLE);
}

template <bool>
DEVICE void load_four(float x[CONVERTED], const block_q8_0 *src, size_t at, int) {
  const block_q8_0 *block = src + at / QUANT_BLOCK;
  const uint16_t *pairs = (const uint16_t *)block->q + at % QUANT_BLOCK / 2;
  float scale = float_of_f16(block->scale);
#pragma unroll
  for (int i = 0; i < CONVERTED; i++) x[i] = scale * (float)(int8_t)(pairs[i / 2] >> 8 * (i % 2));
}

template <bool>
DEVICE void load_four(float x[CONVERTED], const block_q4_0 *src, size_t at, int) {
  constexpr int HALF = QUANT_BLOCK / 2;
  const block_q4_0 *block = src + at / QUANT_BLOCK;
  const uint16_t *pairs = (const uint16_t *)block->q + at % HALF / 2;
  float scale = float_of_f16(block->scale);
  int shift = at % QUANT_BLOCK < HALF ? 0 : 4;
#pragma unroll
  for (int i = 0; i < CONVERTED; i++) x[i] = scale * (float)((pairs[i / 2] >> 8 * (i % 2) >> shift & 15) - 8);
}

template <bool IS_WHOLE, typename T>
DEVICE void store_four(T *dst, const float x[CONVERTED], int left) {
  T four[CONVERTED];
#pragma unroll
  for (int i = 0; i < CONVERTED; i++) four[i] = rounded<T>(x[i]);
  if constexpr (IS_WHOLE) {
    *(uint2 *)dst = make_uint2(four[0].bits | (uint32_t)four[1].bits << 16, four[2].bits | (uint32_t)four[3].bits << 16);
  } else {
#pragma unroll
    for (int i = 0; i < CONVERTED; i++)
      if (i < left) dst[i] = four[i];
  }
}
template <bool IS_WHOLE>
DEVICE void store_four(float *dst, const float x[CONVERTED], int left) {
  store_floats(dst, 0, left, IS_WHOLE, x);
}

// A block converts a stretch of GROUPS · CONVERTED elements a thread.
template <bool IS_WHOLE, typename T, typename S>
DEVICE void cast_stretch(T *dst, const S *src, size_t count) {
  size_t stride = blockDim.x * CONVERTED, first = (size_t)blockIdx.x * GROUPS * stride + threadIdx.x * CONVERTED;
  float x[GROUPS][CONVERTED];
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    size_t at = first + k * stride;
    if (IS_WHOLE || at < count) load_four<IS_WHOLE>(x[k], src, at, (int)(count - at));
  }
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    size_t at = first + k * stride;
    if (IS_WHOLE || at < count) store_four<IS_WHOLE>(dst + at, x[k], (int)(count - at));
  }
}

template <typename T, typename S>
DEVICE void cast_from(T *dst, const S *src, size_t count) {
  bool is_whole = (size_t)(blockIdx.x + 1) * blockDim.x * GROUPS * CONVERTED <= count && ((uintptr_t)dst | (uintptr_t)src) % 16 == 0;
  if (is_whole) cast_stretch<true>(dst, src, count);
  else cast_stretch<false>(dst, src, count);
}

template <typename T>
DEVICE void cast_elements(T *dst, const void *src, int src_dtype, int count) {
  switch (src_dtype) {
  case F32: return cast_from(dst, (const float *)src, count);
  case BF16: return cast_from(dst, (const bf16 *)src, count);
  case F16: return cast_from(dst, (const f16 *)src, count);
  case Q8_0: return cast_from(dst, (const block_q8_0 *)src, count);
  default: return cast_from(dst, (const block_q4_0 *)src, count);
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
