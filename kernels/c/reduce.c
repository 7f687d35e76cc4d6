// Sums in a fixed order, whatever the number of threads: chunks of fixed length, then the chunks one after the other.

#include "simd.h"
#include "threads.h"

enum {
  CHUNK = 1 << 14,
  ACCUMULATORS = 8,
};

typedef struct {
  double *partial; // one for each chunk
  const float *x;
  ptrdiff_t count;
  int squares;
} sum_args;

static inline __attribute__((always_inline)) double chunk_sum(const float *x, ptrdiff_t count, int squares) {
  vf acc[ACCUMULATORS] = {0};
  ptrdiff_t j = 0;
  for (; j + ACCUMULATORS * VL <= count; j += ACCUMULATORS * VL) {
    for (int i = 0; i < ACCUMULATORS; i++) {
      vf value = vf_load(x + j + i * VL);
      acc[i] = squares ? vf_fma(value, value, acc[i]) : acc[i] + value;
    }
  }
  for (; j < count; j += VL) {
    vf value = j + VL <= count ? vf_load(x + j) : vf_load_first(x + j, count - j);
    acc[0] = squares ? vf_fma(value, value, acc[0]) : acc[0] + value;
  }
  double sum = 0;
  for (int i = 0; i < ACCUMULATORS; i++) sum += (double)vf_sum(acc[i]);
  return sum;
}

static void sum_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const sum_args *a = args;
  for (ptrdiff_t chunk = begin; chunk < end; chunk++) {
    const float *x = a->x + chunk * CHUNK;
    ptrdiff_t left = a->count - chunk * CHUNK, count = left < CHUNK ? left : CHUNK;
    a->partial[chunk] = a->squares ? chunk_sum(x, count, 1) : chunk_sum(x, count, 0);
  }
}

static float sum_of(tl_context *ctx, const float *x, ptrdiff_t count, int squares) {
  sum_args a = {tl_shared(ctx), x, count, squares};
  ptrdiff_t chunks = (count + CHUNK - 1) / CHUNK;
  tl_parallel(ctx, sum_task, &a, chunks, 1);
  double sum = 0;
  for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) sum += a.partial[chunk];
  return (float)sum;
}

TL_EXPORT void reduce_sum(tl_context *ctx, float *out, const float *x, int count) {
  out[0] = sum_of(ctx, x, count, 0);
}

TL_EXPORT void reduce_sum_of_squares(tl_context *ctx, float *out, const float *x, int count) {
  out[0] = sum_of(ctx, x, count, 1);
}

TL_EXPORT void reduce_clip_scale(tl_context *ctx, float *out, const float *squares, int count, const float *loss, float max_norm) {
  (void)ctx;
  double sum = 0;
  for (int j = 0; j < count; j++) sum += (double)squares[j];
  float norm = (float)__builtin_sqrt(sum);
  double scale = max_norm > 0 ? (double)max_norm / ((double)norm + 1e-6) : 1;
  int is_finite = __builtin_isfinite(norm) && __builtin_isfinite(loss[0]);
  out[0] = !is_finite ? 0 : scale < 1 ? (float)scale : 1;
  out[1] = norm;
}
