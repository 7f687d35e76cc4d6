// Storing the keys and values of new tokens in their slots of the cache.

#include "threads.h"

enum { GRAIN_ELEMENTS = 1 << 14 };

typedef struct {
  float *keys, *values;
  const float *qkv;
  const int *positions;
  ptrdiff_t t, h, k, d, s;
} append_args;

static void append_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const append_args *a = args;
  size_t head_bytes = (size_t)a->d * sizeof(float);
  for (ptrdiff_t n = begin; n < end; n++) {
    const float *key = a->qkv + (n * (a->h + 2 * a->k) + a->h) * a->d, *value = key + a->k * a->d;
    ptrdiff_t b = n / a->t, slot = a->positions[n];
    for (ptrdiff_t k = 0; k < a->k; k++) {
      ptrdiff_t at = ((b * a->k + k) * a->s + slot) * a->d;
      __builtin_memcpy(a->keys + at, key + k * a->d, head_bytes);
      __builtin_memcpy(a->values + at, value + k * a->d, head_bytes);
    }
  }
}

TL_EXPORT void kv_cache_append(tl_context *ctx, float *keys, float *values, const float *qkv, const int *positions, int b, int t, int h, int k, int d, int s) {
  append_args a = {keys, values, qkv, positions, t, h, k, d, s};
  tl_parallel(ctx, append_task, &a, (ptrdiff_t)b * t, GRAIN_ELEMENTS / (2 * k * d + 1) + 1);
}
