// AdamW in one pass over parameter, gradient and both moments.

#include "threads.h"
#include "vector_math.h"

enum { GRAIN_ELEMENTS = 1 << 13 };

typedef struct {
  float *param, *m, *v;
  const float *grad;
  float clip, beta1, beta2, epsilon;
  float keep;          // 1 - lr · decay
  float step;          // lr / (1 - β1^t)
  float v_correction;  // 1 / (1 - β2^t)
} adamw_args;

static inline vf updated(const adamw_args *a, vf param, vf grad, vf *m, vf *v) {
  vf g = grad * a->clip;
  *m = *m * a->beta1 + g * (1 - a->beta1);
  *v = *v * a->beta2 + g * g * (1 - a->beta2);
  return param * a->keep - *m * a->step / (vf_sqrt(*v * a->v_correction) + a->epsilon);
}

static void adamw_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const adamw_args a = *(const adamw_args *)args;
  ptrdiff_t j = begin;
  for (; j + VL <= end; j += VL) {
    vf m = vf_load(a.m + j), v = vf_load(a.v + j);
    vf_store(a.param + j, updated(&a, vf_load(a.param + j), vf_load(a.grad + j), &m, &v));
    vf_store(a.m + j, m);
    vf_store(a.v + j, v);
  }
  ptrdiff_t rest = end - j;
  if (rest > 0) {
    vf m = vf_load_first(a.m + j, rest), v = vf_load_first(a.v + j, rest);
    vf_store_first(a.param + j, updated(&a, vf_load_first(a.param + j, rest), vf_load_first(a.grad + j, rest), &m, &v), rest);
    vf_store_first(a.m + j, m, rest);
    vf_store_first(a.v + j, v, rest);
  }
}

// 1 - beta^t, by squaring.
static double bias_correction(double beta, uint32_t t) {
  double power = 1;
  for (; t > 0; t >>= 1, beta *= beta)
    if (t & 1) power *= beta;
  return 1 - power;
}

TL_EXPORT void adamw_update(tl_context *ctx, float *param, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  if (clip[0] == 0) return;
  double lr = schedule[0];
  uint32_t t = (uint32_t)schedule[1];
  adamw_args a = {
    .param = param, .m = m, .v = v, .grad = grad,
    .clip = clip[0], .beta1 = beta1, .beta2 = beta2, .epsilon = epsilon,
    .keep = (float)(1 - lr * weight_decay),
    .step = (float)(lr / bias_correction(beta1, t)),
    .v_correction = (float)(1 / bias_correction(beta2, t)),
  };
  tl_parallel(ctx, adamw_task, &a, count, GRAIN_ELEMENTS);
}
