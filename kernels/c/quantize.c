// Conversion between element types, and llama.cpp's q8_0 and q4_0 blocks, byte for byte as its reference code has them.

#include "elements.h"
#include "threads.h"
#include "vector_math.h"

enum {
  GRAIN_ELEMENTS = 1 << 14, // whole blocks
  SLICE = 1024,             // elements decoded at once, whole blocks
};

typedef struct {
  void *dst;
  const void *src;
  int dst_dtype, src_dtype;
} convert_args;

static void encode_halves(uint16_t *dst, const float *src, ptrdiff_t count, int dtype) {
  ptrdiff_t j = 0;
  for (; j + VL <= count; j += VL) vh_store(dst + j, dtype == TL_BF16 ? vf_to_bf16(vf_load(src + j)) : vf_to_f16(vf_load(src + j)));
  if (j == count) return;
  vf rest = vf_load_first(src + j, count - j);
  vh halves = dtype == TL_BF16 ? vf_to_bf16(rest) : vf_to_f16(rest);
  for (ptrdiff_t i = 0; j + i < count; i++) dst[j + i] = halves[i];
}

static void cast_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const convert_args *a = args;
  if (a->dst_dtype == a->src_dtype) {
    size_t offset = element_bytes(a->dst_dtype, (size_t)begin), bytes = element_bytes(a->dst_dtype, (size_t)(end - begin));
    __builtin_memcpy((char *)a->dst + offset, (const char *)a->src + offset, bytes);
    return;
  }
  if (a->dst_dtype == TL_F32) {
    decode_elements((float *)a->dst + begin, a->src, a->src_dtype, (size_t)begin, (size_t)(end - begin));
    return;
  }
  uint16_t *dst = a->dst;
  for (ptrdiff_t first = begin; first < end; first += SLICE) {
    ptrdiff_t count = end - first < SLICE ? end - first : SLICE;
    if (a->src_dtype == TL_F32) {
      encode_halves(dst + first, (const float *)a->src + first, count, a->dst_dtype);
      continue;
    }
    float slice[SLICE];
    decode_elements(slice, a->src, a->src_dtype, (size_t)first, (size_t)count);
    encode_halves(dst + first, slice, count, a->dst_dtype);
  }
}

TL_EXPORT void cast_elements(tl_context *ctx, void *dst, int dst_dtype, const void *src, int src_dtype, int count) {
  convert_args a = {dst, src, dst_dtype, src_dtype};
  tl_parallel(ctx, cast_task, &a, count, GRAIN_ELEMENTS);
}

static inline void store_integers(int32_t *p, vi x) { vf_store((float *)p, (vf)x); }
static inline vf magnitude(vf x) { return (vf)((vi)x & 0x7fffffff); }
static inline float reciprocal(float d) { return d != 0 ? 1 / d : 0; }

// q = x / d to the nearest integer, halves away from zero, with d = max |x| / 127.
static void encode_q8_0(block_q8_0 *block, const float *x) {
  vf greatest = {0};
  for (int j = 0; j < QUANT_BLOCK; j += VL) greatest = vf_max(greatest, magnitude(vf_load(x + j)));
  float d = vf_max_lane(greatest) / 127, inverse = reciprocal(d);
  block->scale = f32_to_f16(d);
  int32_t q[QUANT_BLOCK];
  for (int j = 0; j < QUANT_BLOCK; j += VL) {
    vf scaled = vf_max(vf_set(-127), vf_min(vf_set(127), vf_load(x + j) * inverse));
    vi whole = __builtin_convertvector(scaled, vi);
    vf rest = scaled - __builtin_convertvector(whole, vf);
    store_integers(q + j, whole - (vi)(rest >= 0.5f) + (vi)(rest <= -0.5f));
  }
  for (int j = 0; j < QUANT_BLOCK; j++) block->q[j] = (int8_t)q[j];
}

// The number of greatest magnitude, the first of several.
static float extreme_of(const float *x) {
  vf highest = vf_load(x), lowest = highest;
  for (int j = VL; j < QUANT_BLOCK; j += VL) {
    highest = vf_max(highest, vf_load(x + j));
    lowest = vf_min(lowest, vf_load(x + j));
  }
  float most = vf_max_lane(highest), least = -vf_max_lane(-lowest);
  if (most != -least) return most > -least ? most : least;
  for (int j = 0; j < QUANT_BLOCK; j++)
    if (x[j] == most || x[j] == least) return x[j];
  return 0;
}

// q = x / d + 8 to the nearest integer from 0 to 15, with inverse = 1 / d. Bounding the product before the addition also
// keeps the compiler from fusing them, which would round differently.
static inline vi nibbles_of(const float *x, float inverse) {
  vf scaled = vf_max(vf_set(-8), vf_min(vf_set(7), vf_load(x) * inverse));
  return __builtin_convertvector(scaled + 8.5f, vi);
}

// d = (the x of greatest magnitude) / -8.
static void encode_q4_0(block_q4_0 *block, const float *x) {
  enum { HALF = QUANT_BLOCK / 2 };
  float d = extreme_of(x) / -8, inverse = reciprocal(d);
  block->scale = f32_to_f16(d);
  int32_t pairs[HALF];
  for (int j = 0; j < HALF; j += VL) store_integers(pairs + j, nibbles_of(x + j, inverse) | nibbles_of(x + HALF + j, inverse) << 4);
  for (int j = 0; j < HALF; j++) block->q[j] = (uint8_t)pairs[j];
}

static void quantize_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const convert_args *a = args;
  for (ptrdiff_t first = begin; first < end; first += SLICE) {
    ptrdiff_t count = end - first < SLICE ? end - first : SLICE;
    float slice[SLICE];
    const float *x = (const float *)a->src + first;
    if (a->src_dtype != TL_F32) {
      decode_elements(slice, a->src, a->src_dtype, (size_t)first, (size_t)count);
      x = slice;
    }
    for (ptrdiff_t j = 0; j < count; j += QUANT_BLOCK) {
      ptrdiff_t block = (first + j) / QUANT_BLOCK;
      if (a->dst_dtype == TL_Q8_0) encode_q8_0((block_q8_0 *)a->dst + block, x + j);
      else encode_q4_0((block_q4_0 *)a->dst + block, x + j);
    }
  }
}

TL_EXPORT void quantize_elements(tl_context *ctx, void *dst, int dst_dtype, const void *src, int src_dtype, int count) {
  convert_args a = {dst, src, dst_dtype, src_dtype};
  tl_parallel(ctx, quantize_task, &a, count, GRAIN_ELEMENTS);
}
