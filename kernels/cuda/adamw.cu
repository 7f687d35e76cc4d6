// AdamW in one pass: per element it reads master, gradient and both moments and writes master, moments and parameter (30
// bytes with bf16 parameters, 28 in f32). A thread has one pack of f32 at a time, so that a warp's accesses are whole lines.

#include "device.cuh"

constexpr int WIDTH = Pack<float>::WIDTH;
constexpr int THREADS = 256;
constexpr int BLOCKS = 5; // of a multiprocessor

// 1 - beta^t without cancellation.
DEVICE float bias_correction(float beta, float t) { return -expm1f(t * log1pf(beta - 1)); }

// Up to WIDTH parameters, all of them at once where `packed`.
DEVICE void store_parameters(bf16 *param, const float *p, int left, bool packed) {
  if (packed) {
    *(uint2 *)param = make_uint2(bf16_pair(p[0], p[1]), bf16_pair(p[2], p[3]));
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++)
    if (i < left) param[i] = from_float<bf16>(p[i]);
}

// Without a master copy `master` is the parameter itself and `param` is null.
DEVICE void adamw_update(bf16 *param, float *master, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  float scale = clip[0], lr = schedule[0], t = schedule[1];
  if (scale == 0) return;
  float keep = 1 - lr * weight_decay, step = lr / bias_correction(beta1, t), v_correction = 1 / bias_correction(beta2, t);
  bool packed = is_packed(master, WIDTH) && is_packed(grad, WIDTH) && is_packed(m, WIDTH) && is_packed(v, WIDTH);
  bool param_packed = (uintptr_t)param % sizeof(uint2) == 0;
  for (size_t at = grid_thread() * WIDTH; at < (size_t)count; at += (size_t)gridDim.x * blockDim.x * WIDTH) {
    int left = count - at < WIDTH ? (int)(count - at) : WIDTH;
    bool whole = left == WIDTH;
    float p[WIDTH], g[WIDTH], first[WIDTH], second[WIDTH];
    load_floats(p, master + at, 0, left, packed && whole);
    load_floats(g, grad + at, 0, left, packed && whole);
    load_floats(first, m + at, 0, left, packed && whole);
    load_floats(second, v + at, 0, left, packed && whole);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      float gradient = g[i] * scale;
      first[i] = first[i] * beta1 + gradient * (1 - beta1);
      second[i] = second[i] * beta2 + gradient * gradient * (1 - beta2);
      p[i] = p[i] * keep - first[i] * step / (sqrtf(second[i] * v_correction) + epsilon);
    }
    store_floats(master + at, 0, left, packed && whole, p);
    store_floats(m + at, 0, left, packed && whole, first);
    store_floats(v + at, 0, left, packed && whole, second);
    if (param) store_parameters(param + at, p, left, param_packed && whole);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) adamw_update_bf16(bf16 *param, float *master, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  adamw_update(param, master, grad, m, v, clip, schedule, count, beta1, beta2, epsilon, weight_decay);
}
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) adamw_update_f32(float *param, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  adamw_update(nullptr, param, grad, m, v, clip, schedule, count, beta1, beta2, epsilon, weight_decay);
}
