// Causal grouped-query attention with an online softmax: training forward and backward, and against a key/value cache.

#include "threads.h"
#include "vector_math.h"

enum { MAX_HEAD = 256 };

typedef struct {
  float *out, *lse;
  const float *q, *keys, *values;
  const int *positions; // null: row t attends to 0 ... t
  ptrdiff_t t, h, k, d, q_stride;
  ptrdiff_t sequence_stride, head_stride, slot_stride; // of keys and values
} attention_problem;

static float dot(const float *a, const float *b, ptrdiff_t d) {
  vf acc = {0};
  ptrdiff_t j = 0;
  for (; j + VL <= d; j += VL) acc = vf_fma(vf_load(a + j), vf_load(b + j), acc);
  float sum = vf_sum(acc);
  for (; j < d; j++) sum += a[j] * b[j];
  return sum;
}

// y += a x
static void add_scaled(float *y, float a, const float *x, ptrdiff_t d) {
  for (ptrdiff_t j = 0; j < d; j++) y[j] += a * x[j];
}

static float exp_of(float x) { return vf_exp(vf_set(x))[0]; }

static void forward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const attention_problem *p = args;
  float scale = (float)(1 / __builtin_sqrt((double)p->d));
  for (ptrdiff_t row = begin; row < end; row++) {
    ptrdiff_t head = row % p->h, position = row / p->h, sequence = position / p->t, t = position % p->t;
    ptrdiff_t limit = p->positions ? p->positions[position] : t;
    ptrdiff_t at = sequence * p->sequence_stride + head * p->k / p->h * p->head_stride;
    const float *q = p->q + position * p->q_stride + head * p->d;
    float acc[MAX_HEAD] = {0}, max = -__builtin_inff(), sum = 0;
    for (ptrdiff_t slot = 0; slot <= limit; slot++) {
      float score = dot(q, p->keys + at + slot * p->slot_stride, p->d) * scale;
      if (score > max) {
        float factor = exp_of(max - score);
        for (ptrdiff_t j = 0; j < p->d; j++) acc[j] *= factor;
        sum *= factor;
        max = score;
      }
      float weight = exp_of(score - max);
      sum += weight;
      add_scaled(acc, weight, p->values + at + slot * p->slot_stride, p->d);
    }
    for (ptrdiff_t j = 0; j < p->d; j++) p->out[row * p->d + j] = acc[j] / sum;
    if (p->lse) p->lse[(sequence * p->h + head) * p->t + t] = max + (float)log_of(sum);
  }
}

TL_EXPORT void attention_forward(tl_context *ctx, float *out, float *lse, const float *qkv, int b, int t, int h, int k, int d) {
  ptrdiff_t row = (ptrdiff_t)(h + 2 * k) * d;
  attention_problem problem = {
    out, lse, qkv, qkv + (ptrdiff_t)h * d, qkv + (ptrdiff_t)(h + k) * d, 0, t, h, k, d, row, t * row, d, row,
  };
  tl_parallel(ctx, forward_task, &problem, (ptrdiff_t)b * t * h, 1);
}

TL_EXPORT void attention_cached(tl_context *ctx, float *out, const float *qkv, const float *keys, const float *values, const int *positions, int b, int t, int h, int k, int d, int s) {
  ptrdiff_t head = (ptrdiff_t)s * d;
  attention_problem problem = {
    out, 0, qkv, keys, values, positions, t, h, k, d, (ptrdiff_t)(h + 2 * k) * d, k * head, head, d,
  };
  tl_parallel(ctx, forward_task, &problem, (ptrdiff_t)b * t * h, 1);
}

typedef struct {
  float *dqkv;
  const float *dout, *qkv, *out, *lse;
  ptrdiff_t t, h, k, d;
} backward_problem;

static void backward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const backward_problem *p = args;
  ptrdiff_t d = p->d, group = p->h / p->k, stride = (p->h + 2 * p->k) * d;
  float scale = (float)(1 / __builtin_sqrt((double)d));
  for (ptrdiff_t unit = begin; unit < end; unit++) {
    ptrdiff_t sequence = unit / p->k, kv = unit % p->k, base = sequence * p->t * stride;
    ptrdiff_t key_at = base + (p->h + kv) * d, value_at = key_at + p->k * d;
    for (ptrdiff_t t = 0; t < p->t; t++) {
      __builtin_memset(p->dqkv + base + t * stride + kv * group * d, 0, (size_t)(group * d) * 4);
      __builtin_memset(p->dqkv + key_at + t * stride, 0, (size_t)d * 4);
      __builtin_memset(p->dqkv + value_at + t * stride, 0, (size_t)d * 4);
    }
    for (ptrdiff_t head = kv * group; head < (kv + 1) * group; head++) {
      for (ptrdiff_t t = 0; t < p->t; t++) {
        ptrdiff_t at = base + t * stride + head * d, out_at = ((sequence * p->t + t) * p->h + head) * d;
        float delta = dot(p->dout + out_at, p->out + out_at, d);
        float lse = p->lse[(sequence * p->h + head) * p->t + t];
        for (ptrdiff_t slot = 0; slot <= t; slot++) {
          ptrdiff_t key = key_at + slot * stride, value = value_at + slot * stride;
          float weight = exp_of(dot(p->qkv + at, p->qkv + key, d) * scale - lse);
          float dscore = weight * (dot(p->dout + out_at, p->qkv + value, d) - delta) * scale;
          add_scaled(p->dqkv + value, weight, p->dout + out_at, d);
          add_scaled(p->dqkv + at, dscore, p->qkv + key, d);
          add_scaled(p->dqkv + key, dscore, p->qkv + at, d);
        }
      }
    }
  }
}

TL_EXPORT void attention_backward(tl_context *ctx, float *dqkv, const float *dout, const float *qkv, const float *out, const float *lse, int b, int t, int h, int k, int d) {
  backward_problem problem = {dqkv, dout, qkv, out, lse, t, h, k, d};
  tl_parallel(ctx, backward_task, &problem, (ptrdiff_t)b * k, 1);
}
