// Rotary position embedding in place: pairs (j, j + d/2) of every rotated head turn by their row's angles.

#include "simd.h"
#include "threads.h"

enum { GRAIN_ELEMENTS = 1 << 13 };

typedef struct {
  float *qkv;
  const float *table;
  const int *positions;
  ptrdiff_t rotated, heads, d;
  float sign; // of the angle
} rope_args;

static void rotate(float *head, const float *cosines, const float *sines, ptrdiff_t half, float sign) {
  ptrdiff_t j = 0;
  for (; j + VL <= half; j += VL) {
    vf a = vf_load(head + j), b = vf_load(head + half + j);
    vf cosine = vf_load(cosines + j), sine = vf_load(sines + j) * sign;
    vf_store(head + j, a * cosine - b * sine);
    vf_store(head + half + j, b * cosine + a * sine);
  }
  for (; j < half; j++) {
    float a = head[j], b = head[half + j], cosine = cosines[j], sine = sines[j] * sign;
    head[j] = a * cosine - b * sine;
    head[half + j] = b * cosine + a * sine;
  }
}

static void rope_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const rope_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++) {
    const float *cosines = a->table + a->positions[n] * a->d;
    float *row = a->qkv + n * a->heads * a->d;
    for (ptrdiff_t h = 0; h < a->rotated; h++) rotate(row + h * a->d, cosines, cosines + a->d / 2, a->d / 2, a->sign);
  }
}

TL_EXPORT void rope(tl_context *ctx, float *qkv, const float *table, const int *positions, int n, int rotated, int heads, int d, int inverse) {
  rope_args a = {qkv, table, positions, rotated, heads, d, inverse ? -1.0f : 1.0f};
  tl_parallel(ctx, rope_task, &a, n, GRAIN_ELEMENTS / (rotated * d + 1) + 1);
}
