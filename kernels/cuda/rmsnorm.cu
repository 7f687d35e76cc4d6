// Root mean square norm of rows, in the notation of lib/core/ops.ts. A warp or a block a row, chosen so that each thread
// has one pack of 16 bytes of it, or up to KEPT where there are many rows: then instructions count, otherwise time. Memory
// traffic per element in bf16: forward 4 bytes; backward 8 (dOut, x, dX twice).
// Backward: a block takes a fixed chunk of rows and adds up its share of dWeight in registers; the chunks are then added in
// order.

#include "row.cuh"

constexpr int MAX_THREADS = 1024;
constexpr int KEPT = 4;
constexpr int SUM_COLUMNS = 32, SUM_PARTS = 32;

template <typename T>
DEVICE void rmsnorm_forward(T *out, float *rstd, const T *x, const T *weight, int n, int c, float eps) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int index = block_row();
  if (index >= n) return;
  Row<T, KEPT> row(x, index, c);
  Row<T, 1> gains(weight, 0, c);
  float squares = 0;
  row.each([&](int, int, const Pack<T> &pack) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++) squares += pack.number(i) * pack.number(i);
  });
  float factor = rsqrtf(row_sum(squares) / (float)c + eps);
  T *to = out + (size_t)index * c;
  bool packed = is_packed(out, c);
  row.each([&](int k, int at, const Pack<T> &pack) {
    Pack<T> w = gains.pack(k);
    float y[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) y[i] = w.number(i) * (pack.number(i) * factor);
    store_floats(to, at, c, packed, y);
  });
  if (rstd && threadIdx.x == 0) rstd[index] = factor;
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS) rmsnorm_forward_bf16(bf16 *out, float *rstd, const bf16 *x, const bf16 *weight, int n, int c, float eps) {
  rmsnorm_forward(out, rstd, x, weight, n, c, eps);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS) rmsnorm_forward_f32(float *out, float *rstd, const float *x, const float *weight, int n, int c, float eps) {
  rmsnorm_forward(out, rstd, x, weight, n, c, eps);
}

// What one row adds to dX, and to the chunk's sum of dWeight: of the thread's first pack in `sums`, of others in `partial`.
// All that the row needs is on its way before the first sum is waited for.
template <typename T>
DEVICE void backward_row(T *dx, float *partial, float *sums, const T *dout, const T *x, const Row<T, 1> &gains, float rstd, size_t index, int c, bool is_new) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  Row<T, 1> row(x, index, c), gradients(dout, index, c), before(dx, index, c);
  float dot = 0;
  row.each([&](int k, int, const Pack<T> &pack) {
    Pack<T> d = gradients.pack(k), w = gains.pack(k);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) dot += d.number(i) * w.number(i) * pack.number(i);
  });
  float pull = row_sum(dot) / (float)c * rstd * rstd;
  row.each([&](int k, int at, const Pack<T> &pack) {
    Pack<T> d = gradients.pack(k), w = gains.pack(k), old = before.pack(k);
    float sum[WIDTH], share[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      sum[i] = old.number(i) + (d.number(i) * w.number(i) - pack.number(i) * pull) * rstd;
      share[i] = d.number(i) * (pack.number(i) * rstd);
    }
    store_floats(dx + index * c, at, c, before.packed, sum);
    if (k == 0) {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) sums[i] += share[i];
    } else {
      for (int i = 0; i < WIDTH && at + i < c; i++) partial[at + i] = is_new ? share[i] : partial[at + i] + share[i];
    }
  });
}

// partial (chunks, C) f32, a block a chunk.
template <typename T>
DEVICE void rmsnorm_backward(T *dx, float *partial, const T *dout, const T *x, const T *weight, const float *rstd, int n, int c, int chunk_rows) {
  float sums[Pack<T>::WIDTH] = {0};
  int first = blockIdx.x * chunk_rows, end = min(first + chunk_rows, n);
  float *to = partial + (size_t)blockIdx.x * c;
  Row<T, 1> gains(weight, 0, c);
  for (int index = first; index < end; index++) backward_row(dx, to, sums, dout, x, gains, rstd[index], index, c, index == first);
  int at = threadIdx.x * Pack<T>::WIDTH;
  for (int i = 0; i < Pack<T>::WIDTH; i++)
    if (at + i < c) to[at + i] = sums[i];
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS) rmsnorm_backward_bf16(bf16 *dx, float *partial, const bf16 *dout, const bf16 *x, const bf16 *weight, const float *rstd, int n, int c, int chunk_rows) {
  rmsnorm_backward(dx, partial, dout, x, weight, rstd, n, c, chunk_rows);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS) rmsnorm_backward_f32(float *dx, float *partial, const float *dout, const float *x, const float *weight, const float *rstd, int n, int c, int chunk_rows) {
  rmsnorm_backward(dx, partial, dout, x, weight, rstd, n, c, chunk_rows);
}

// dWeight += Σ partial over chunks; a block of (32, 32) threads for 32 columns.
extern "C" __global__ void __launch_bounds__(SUM_COLUMNS * SUM_PARTS) rmsnorm_sum_chunks(float *dweight, const float *partial, int chunks, int c) {
  __shared__ float sums[SUM_PARTS][SUM_COLUMNS];
  int column = blockIdx.x * SUM_COLUMNS + threadIdx.x;
  float sum = 0;
  if (column < c)
#pragma unroll 4
    for (int chunk = threadIdx.y; chunk < chunks; chunk += SUM_PARTS) sum += partial[(size_t)chunk * c + column];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= c) return;
  for (int part = 1; part < SUM_PARTS; part++) sum += sums[part][threadIdx.x];
  dweight[column] += sum;
}
