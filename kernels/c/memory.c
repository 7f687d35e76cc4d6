// Filling and copying memory with all threads.

#include "threads.h"

enum { GRAIN_BYTES = 1 << 18 }; // less than this is done before a thread has woken

typedef struct {
  uint32_t *dst;
  uint32_t bits;
} fill_args;

static void fill_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const fill_args *a = args;
  uint32_t *dst = a->dst, bits = a->bits;
  for (ptrdiff_t j = begin; j < end; j++) dst[j] = bits;
}

TL_EXPORT void fill_words(tl_context *ctx, uint32_t *dst, uint32_t bits, int count) {
  fill_args a = {dst, bits};
  tl_parallel(ctx, fill_task, &a, count, GRAIN_BYTES / 4);
}

typedef struct {
  char *dst;
  const char *src;
} copy_args;

static void copy_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const copy_args *a = args;
  __builtin_memcpy(a->dst + begin, a->src + begin, (size_t)(end - begin));
}

TL_EXPORT void copy_bytes(tl_context *ctx, void *dst, const void *src, size_t count) {
  copy_args a = {dst, src};
  tl_parallel(ctx, copy_task, &a, (ptrdiff_t)count, GRAIN_BYTES);
}
