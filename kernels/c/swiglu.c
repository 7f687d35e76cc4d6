// The gated activation of the MLP: silu(gate) times up, with gate and up side by side in one row.

#include "threads.h"
#include "vector_math.h"

enum { GRAIN_ELEMENTS = 1 << 12 };

typedef struct {
  float *out;
  const float *dout, *gate_up;
  ptrdiff_t f;
} swiglu_args;

static void forward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const swiglu_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++) {
    const float *gate = a->gate_up + n * 2 * a->f, *up = gate + a->f;
    float *out = a->out + n * a->f;
    ptrdiff_t j = 0;
    for (; j + VL <= a->f; j += VL) vf_store(out + j, vf_silu(vf_load(gate + j)) * vf_load(up + j));
    ptrdiff_t rest = a->f - j;
    if (rest > 0) vf_store_first(out + j, vf_silu(vf_load_first(gate + j, rest)) * vf_load_first(up + j, rest), rest);
  }
}

TL_EXPORT void swiglu_forward(tl_context *ctx, float *out, const float *gate_up, int n, int f) {
  swiglu_args a = {.out = out, .gate_up = gate_up, .f = f};
  tl_parallel(ctx, forward_task, &a, n, GRAIN_ELEMENTS / (f + 1) + 1);
}

// With s = sigmoid(gate): silu' = s (1 + gate (1 - s)).
static inline void gradient(vf *dgate, vf *dup, vf dout, vf gate, vf up) {
  vf s = vf_sigmoid(gate), silu = gate * s;
  *dgate = dout * up * (s + silu * (1.0f - s));
  *dup = dout * silu;
}

static void backward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const swiglu_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++) {
    const float *gate = a->gate_up + n * 2 * a->f, *up = gate + a->f, *dout = a->dout + n * a->f;
    float *dgate = a->out + n * 2 * a->f, *dup = dgate + a->f;
    vf first, second;
    ptrdiff_t j = 0;
    for (; j + VL <= a->f; j += VL) {
      gradient(&first, &second, vf_load(dout + j), vf_load(gate + j), vf_load(up + j));
      vf_store(dgate + j, first);
      vf_store(dup + j, second);
    }
    ptrdiff_t rest = a->f - j;
    if (rest > 0) {
      gradient(&first, &second, vf_load_first(dout + j, rest), vf_load_first(gate + j, rest), vf_load_first(up + j, rest));
      vf_store_first(dgate + j, first, rest);
      vf_store_first(dup + j, second, rest);
    }
  }
}

TL_EXPORT void swiglu_backward(tl_context *ctx, float *dgate_up, const float *dout, const float *gate_up, int n, int f) {
  swiglu_args a = {dgate_up, dout, gate_up, f};
  tl_parallel(ctx, backward_task, &a, n, GRAIN_ELEMENTS / (f + 1) + 1);
}
