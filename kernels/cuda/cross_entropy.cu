// Losses of rows of logits, and their gradient in place. A block a row, whose logits stay in registers (rows wider than
// KEPT packs a thread read the rest again): in bf16 2 bytes of traffic per logit forward, 4 with the gradient. Two blocks
// share a multiprocessor, so that one reads while the other computes.

#include "row.cuh"

constexpr int KEPT = 8;
constexpr int MAX_THREADS = 512;
constexpr int MIN_BLOCKS = 2;

template <typename T>
struct Softmax {
  float greatest, sum;

  DEVICE explicit Softmax(const Row<T, KEPT> &row) {
    constexpr int WIDTH = Pack<T>::WIDTH;
    float most = LOWEST, total = 0;
    row.each([&](int, int, const Pack<T> &pack) {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) most = fmaxf(most, pack.number(i));
    });
    most = row_max(most);
    row.each([&](int, int, const Pack<T> &pack) {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) total += exp_fast(pack.number(i) - most);
    });
    greatest = most;
    sum = row_sum(total);
  }

  DEVICE float loss(float target_logit) const { return logf(sum) + (greatest - target_logit); }
};

template <typename T>
DEVICE void cross_entropy_forward(float *losses, const T *logits, const int *targets, int v) {
  int index = blockIdx.x, target = targets[index];
  Row<T, KEPT> row(logits, index, v, LOWEST); // on its way before the target is known
  if (target < 0) {
    if (threadIdx.x == 0) losses[index] = 0;
    return;
  }
  Softmax<T> softmax(row);
  if (threadIdx.x == 0) losses[index] = softmax.loss(to_float(row.row[target]));
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, MIN_BLOCKS) cross_entropy_forward_bf16(float *losses, const bf16 *logits, const int *targets, int v) {
  cross_entropy_forward(losses, logits, targets, v);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS, MIN_BLOCKS) cross_entropy_forward_f32(float *losses, const float *logits, const int *targets, int v) {
  cross_entropy_forward(losses, logits, targets, v);
}

template <typename T>
DEVICE void cross_entropy_forward_backward(float *losses, T *logits, const int *targets, int v, float scale) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int index = blockIdx.x, target = targets[index];
  T *to = logits + (size_t)index * v;
  bool packed = is_packed(logits, v);
  Row<T, KEPT> row(logits, index, v, LOWEST); // on its way before the target is known
  if (target < 0) {
    float zeros[WIDTH] = {0};
    for (int at = threadIdx.x * WIDTH; at < v; at += blockDim.x * WIDTH) store_floats(to, at, v, packed, zeros);
    if (threadIdx.x == 0) losses[index] = 0;
    return;
  }
  float target_logit = to_float(to[target]);
  Softmax<T> softmax(row); // its barriers stand between reading target_logit and the gradient
  float factor = scale / softmax.sum;
  row.each([&](int, int at, const Pack<T> &pack) {
    float gradient[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) gradient[i] = exp_fast(pack.number(i) - softmax.greatest) * factor;
    store_floats(to, at, v, packed, gradient);
  });
  __syncthreads();
  if (threadIdx.x > 0) return;
  to[target] = from_float<T>(exp_fast(target_logit - softmax.greatest) * factor - scale);
  losses[index] = softmax.loss(target_logit);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, MIN_BLOCKS) cross_entropy_forward_backward_bf16(float *losses, bf16 *logits, const int *targets, int v, float scale) {
  cross_entropy_forward_backward(losses, logits, targets, v, scale);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS, MIN_BLOCKS) cross_entropy_forward_backward_f32(float *losses, float *logits, const int *targets, int v, float scale) {
  cross_entropy_forward_backward(losses, logits, targets, v, scale);
}
