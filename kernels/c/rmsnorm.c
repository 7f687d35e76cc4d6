// Root mean square norm of rows. The gradient of the weight is a sum over rows: fixed chunks of rows are added up in
// shared memory, then the chunks in order.

#include "simd.h"
#include "threads.h"

enum {
  GRAIN_ELEMENTS = 1 << 13,
  CHUNK_ROWS = 16, // at least, but for the last
  MAX_CHUNKS = 256,
  COLUMN_GRAIN = 256,
  ACCUMULATORS = 4,
};

typedef struct {
  float *out, *rstd;
  const float *x, *weight;
  ptrdiff_t c;
  float eps;
} forward_args;

static float sum_of_squares(const float *x, ptrdiff_t c) {
  vf acc[ACCUMULATORS] = {0};
  ptrdiff_t j = 0;
  for (; j + ACCUMULATORS * VL <= c; j += ACCUMULATORS * VL) {
    for (int i = 0; i < ACCUMULATORS; i++) {
      vf value = vf_load(x + j + i * VL);
      acc[i] = vf_fma(value, value, acc[i]);
    }
  }
  for (; j < c; j += VL) {
    vf value = j + VL <= c ? vf_load(x + j) : vf_load_first(x + j, c - j);
    acc[0] = vf_fma(value, value, acc[0]);
  }
  return vf_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

static void forward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const forward_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++) {
    const float *x = a->x + n * a->c;
    float *out = a->out + n * a->c;
    float rstd = 1 / __builtin_sqrtf(sum_of_squares(x, a->c) / (float)a->c + a->eps);
    ptrdiff_t j = 0;
    for (; j + VL <= a->c; j += VL) vf_store(out + j, vf_load(x + j) * rstd * vf_load(a->weight + j));
    for (; j < a->c; j++) out[j] = x[j] * rstd * a->weight[j];
    if (a->rstd) a->rstd[n] = rstd;
  }
}

TL_EXPORT void rmsnorm_forward(tl_context *ctx, float *out, float *rstd, const float *x, const float *weight, int n, int c, float eps) {
  forward_args a = {out, rstd, x, weight, c, eps};
  tl_parallel(ctx, forward_task, &a, n, GRAIN_ELEMENTS / (c + 1) + 1);
}

typedef struct {
  float *dx, *partial; // partial: one row of c for each chunk
  const float *dout, *x, *weight, *rstd;
  ptrdiff_t n, c, chunk_rows, chunks;
  float *dweight;
} backward_args;

// Σ dout · weight · x of one row.
static float row_dot(const float *dout, const float *weight, const float *x, ptrdiff_t c) {
  vf acc[ACCUMULATORS] = {0};
  ptrdiff_t j = 0;
  for (; j + ACCUMULATORS * VL <= c; j += ACCUMULATORS * VL) {
    for (int i = 0; i < ACCUMULATORS; i++) {
      ptrdiff_t at = j + i * VL;
      acc[i] = vf_fma(vf_load(dout + at) * vf_load(weight + at), vf_load(x + at), acc[i]);
    }
  }
  for (; j + VL <= c; j += VL) acc[0] = vf_fma(vf_load(dout + j) * vf_load(weight + j), vf_load(x + j), acc[0]);
  float sum = vf_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
  for (; j < c; j++) sum += dout[j] * weight[j] * x[j];
  return sum;
}

// One row of dx, and its share of the weight's gradient added to `sums`.
static void backward_row(const backward_args *a, ptrdiff_t n, float *sums) {
  ptrdiff_t c = a->c, at = n * c;
  const float *dout = a->dout + at, *x = a->x + at, *weight = a->weight;
  float *dx = a->dx + at, rstd = a->rstd[n];
  float pull = row_dot(dout, weight, x, c) / (float)c * rstd * rstd;
  ptrdiff_t j = 0;
  for (; j + VL <= c; j += VL) {
    vf d = vf_load(dout + j), value = vf_load(x + j);
    vf_store(dx + j, vf_load(dx + j) + (d * vf_load(weight + j) - value * pull) * rstd);
    vf_store(sums + j, vf_load(sums + j) + d * (value * rstd));
  }
  for (; j < c; j++) {
    dx[j] += (dout[j] * weight[j] - x[j] * pull) * rstd;
    sums[j] += dout[j] * (x[j] * rstd);
  }
}

static void backward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const backward_args *a = args;
  for (ptrdiff_t chunk = begin; chunk < end; chunk++) {
    float *sums = a->partial + chunk * a->c;
    ptrdiff_t first = chunk * a->chunk_rows;
    ptrdiff_t last = first + a->chunk_rows < a->n ? first + a->chunk_rows : a->n;
    if (a->partial != a->dweight) __builtin_memset(sums, 0, (size_t)a->c * sizeof(float));
    for (ptrdiff_t n = first; n < last; n++) backward_row(a, n, sums);
  }
}

static void add_chunks_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const backward_args *a = args;
  for (ptrdiff_t chunk = 0; chunk < a->chunks; chunk++) {
    const float *sums = a->partial + chunk * a->c;
    for (ptrdiff_t j = begin; j < end; j++) a->dweight[j] += sums[j];
  }
}

TL_EXPORT void rmsnorm_backward(tl_context *ctx, float *dx, float *dweight, const float *dout, const float *x, const float *weight, const float *rstd, int n, int c) {
  backward_args a = {.dx = dx, .dout = dout, .x = x, .weight = weight, .rstd = rstd, .n = n, .c = c, .dweight = dweight};
  ptrdiff_t room = TL_SHARED_BYTES / (ptrdiff_t)sizeof(float) / (c > 0 ? c : 1);
  ptrdiff_t most = room < MAX_CHUNKS ? room : MAX_CHUNKS;
  if (most < 1) most = 1;
  a.chunk_rows = (n + most - 1) / most;
  if (a.chunk_rows < CHUNK_ROWS) a.chunk_rows = CHUNK_ROWS;
  a.chunks = (n + a.chunk_rows - 1) / a.chunk_rows;
  a.partial = a.chunks > 1 ? tl_shared(ctx) : dweight;
  tl_parallel(ctx, backward_task, &a, a.chunks, 1);
  if (a.chunks > 1) tl_parallel(ctx, add_chunks_task, &a, c, COLUMN_GRAIN);
}
