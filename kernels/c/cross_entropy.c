// Losses of rows of logits, and their gradient in place. Each row is read for its maximum, for its exponentials, which
// replace the logits when the gradient is wanted, and then scaled: from the second time on it comes from the cache.

#include "softmax.h"
#include "threads.h"

typedef struct {
  float *losses, *logits;
  const int *targets;
  ptrdiff_t v;
  float scale;
} cross_entropy_args;

static inline float loss_of(double sum, float greatest, float target_logit) {
  return (float)(log_of(sum) + ((double)greatest - (double)target_logit));
}

static void forward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const cross_entropy_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++) {
    int target = a->targets[n];
    a->losses[n] = 0;
    if (target < 0) continue;
    const float *row = a->logits + n * a->v;
    float greatest = row_max(row, a->v);
    a->losses[n] = loss_of(row_exp_sum(NULL, row, a->v, greatest, 1), greatest, row[target]);
  }
}

TL_EXPORT void cross_entropy_forward(tl_context *ctx, float *losses, const float *logits, const int *targets, int n, int v) {
  cross_entropy_args a = {losses, (float *)logits, targets, v, 0};
  tl_parallel(ctx, forward_task, &a, n, 1);
}

static void multiply(float *x, ptrdiff_t count, float factor) {
  for (ptrdiff_t j = 0; j < count; j++) x[j] *= factor;
}

static void forward_backward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const cross_entropy_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++) {
    float *row = a->logits + n * a->v;
    int target = a->targets[n];
    if (target < 0) {
      a->losses[n] = 0;
      __builtin_memset(row, 0, (size_t)a->v * sizeof(float));
      continue;
    }
    float target_logit = row[target], greatest = row_max(row, a->v);
    double sum = row_exp_sum(row, row, a->v, greatest, 1);
    a->losses[n] = loss_of(sum, greatest, target_logit);
    multiply(row, a->v, (float)((double)a->scale / sum));
    row[target] -= a->scale;
  }
}

TL_EXPORT void cross_entropy_forward_backward(tl_context *ctx, float *losses, float *logits, const int *targets, int n, int v, float scale) {
  cross_entropy_args a = {losses, logits, targets, v, scale};
  tl_parallel(ctx, forward_backward_task, &a, n, 1);
}
