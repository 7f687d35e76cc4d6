// AdamW in one pass: per element it reads master, gradient and both moments and writes master, moments and parameter (30
// bytes with bf16 parameters, 28 in f32).

#include "device.cuh"

constexpr int WIDTH = 8;

// 1 - beta^t without cancellation.
DEVICE float bias_correction(float beta, float t) { return -expm1f(t * log1pf(beta - 1)); }

// Without a master copy `master` is the parameter itself and `param` is null.
template <typename T>
DEVICE void adamw_update(T *param, float *master, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  float scale = clip[0], lr = schedule[0], t = schedule[1];
  if (scale == 0) return;
  float keep = 1 - lr * weight_decay, step = lr / bias_correction(beta1, t), v_correction = 1 / bias_correction(beta2, t);
  bool packed = is_packed(master, WIDTH) && is_packed(grad, WIDTH) && is_packed(m, WIDTH) && is_packed(v, WIDTH);
  bool param_packed = param && is_packed(param, WIDTH);
  for (size_t at = grid_thread() * WIDTH; at < (size_t)count; at += (size_t)gridDim.x * blockDim.x * WIDTH) {
    int left = count - at < WIDTH ? (int)(count - at) : WIDTH;
    bool whole = left == WIDTH;
    float p[WIDTH], g[WIDTH], first[WIDTH], second[WIDTH];
    load_f32<WIDTH>(p, master + at, 0, left, packed && whole);
    load_f32<WIDTH>(g, grad + at, 0, left, packed && whole);
    load_f32<WIDTH>(first, m + at, 0, left, packed && whole);
    load_f32<WIDTH>(second, v + at, 0, left, packed && whole);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      float gradient = g[i] * scale;
      first[i] = first[i] * beta1 + gradient * (1 - beta1);
      second[i] = second[i] * beta2 + gradient * gradient * (1 - beta2);
      p[i] = p[i] * keep - first[i] * step / (sqrtf(second[i] * v_correction) + epsilon);
    }
    store_f32<WIDTH>(master + at, 0, left, packed && whole, p);
    store_f32<WIDTH>(m + at, 0, left, packed && whole, first);
    store_f32<WIDTH>(v + at, 0, left, packed && whole, second);
    if (!param) continue;
#pragma unroll
    for (int i = 0; i < WIDTH; i += Pack<T>::WIDTH) store_floats(param + at, i, left, param_packed && whole, p + i);
  }
}

extern "C" __global__ void adamw_update_bf16(bf16 *param, float *master, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  adamw_update(param, master, grad, m, v, clip, schedule, count, beta1, beta2, epsilon, weight_decay);
}
extern "C" __global__ void adamw_update_f32(float *param, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay) {
  adamw_update((float *)nullptr, param, grad, m, v, clip, schedule, count, beta1, beta2, epsilon, weight_decay);
}
