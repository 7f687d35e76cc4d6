// Root mean square norm of rows, in the notation of lib/core/ops.ts. Forward: a warp or a block a row, chosen so that each
// thread has one pack of 16 bytes of it, or up to KEPT where there are many rows: then instructions count, otherwise time.
// Memory traffic per element in bf16: forward 4 bytes; backward 8 (dOut, x, dX twice).
// Backward: a block takes a fixed chunk of rows and adds up its share of dWeight in registers; the chunks are then added in
// order. A row is on its way while the one before it is added up.

#include "row.cuh"

constexpr int MAX_THREADS = 512;
constexpr int WHOLE_THREADS = 512, WHOLE_BLOCKS = 2; // of a multiprocessor, backward
constexpr int KEPT = 8;
constexpr int SUM_COLUMNS = 32, SUM_PARTS = 32;
constexpr int SUMMED = 16; // chunks of a thread, on their way at once

template <typename T>
DEVICE void rmsnorm_forward(T *out, float *rstd, const T *x, const T *weight, int n, int c, float eps) {
  begin_dependent();
  constexpr int WIDTH = Pack<T>::WIDTH;
  int index = block_row();
  if (index >= n) return;
  Row<T, KEPT> row(x, index, c);
  Row<T, 1> gains(weight, 0, c);
  float squares = 0;
  row.each([&](int, int, const Pack<T> &pack) {
    float of_pack = 0;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) of_pack += pack.number(i) * pack.number(i);
    squares += of_pack;
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

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1) rmsnorm_forward_bf16(bf16 *out, float *rstd, const bf16 *x, const bf16 *weight, int n, int c, float eps) {
  rmsnorm_forward(out, rstd, x, weight, n, c, eps);
}
extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1) rmsnorm_forward_f32(float *out, float *rstd, const float *x, const float *weight, int n, int c, float eps) {
  rmsnorm_forward(out, rstd, x, weight, n, c, eps);
}

// A sum over the threads of a block, of which only every second one waits for what the others read of the one before:
// callers alternate `turn`.
DEVICE float alternating_sum(float value, int turn) {
  __shared__ float sums[2][MAX_WARPS];
  int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  value = warp_sum(value);
  if (lane == 0) sums[turn][threadIdx.x / WARP] = value;
  __syncthreads();
  return warp_sum(lane < warps ? sums[turn][lane] : 0.0f);
}

// What one row adds to dX, and to the chunk's sum of dWeight: of the thread's first pack in `sums`, of others in `partial`.
// For rows of which threads have several packs, or parts of packs.
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

// What a row is added up from, a pack of a thread.
template <typename T>
struct RowPacks {
  Pack<T> x, dout;
  float rstd;

  DEVICE void fetch(const T *dout_pack, const T *x_pack, const float *rstd_of_row, bool is_there) {
    rstd = *rstd_of_row;
    if (!is_there) return;
    x = *(const Pack<T> *)x_pack;
    dout = *(const Pack<T> *)dout_pack;
  }
};

// The same for rows of which a thread has one whole pack or none: while a row is added up, what it is added to and the next row are
// on their way.
template <typename T>
DEVICE void backward_rows(T *dx, float *sums, const T *dout, const T *x, const T *weight, const float *rstd, int first, int end, int c, float share) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int at = threadIdx.x * WIDTH;
  bool is_there = at < c;
  Pack<T> w = {{0, 0, 0, 0}};
  if (is_there) w = load_pack(weight, at, c, true);
  RowPacks<T> row = {w, w, 0};
  size_t place = (size_t)first * c + at;
  row.fetch(dout + place, x + place, rstd + first, is_there);
#pragma unroll 1
  for (int index = first; index < end; index++, place += c) {
    Pack<T> before = {{0, 0, 0, 0}};
    if (is_there) before = *(const Pack<T> *)(dx + place);
    RowPacks<T> next = row;
    if (index + 1 < end) next.fetch(dout + place + c, x + place + c, rstd + index + 1, is_there);
    float dot = 0;
#pragma unroll
    for (int i = 0; i < WIDTH; i += 2) {
      float pair = row.dout.number(i) * w.number(i) * row.x.number(i);
      dot += pair + row.dout.number(i + 1) * w.number(i + 1) * row.x.number(i + 1);
    }
    float pull = alternating_sum(is_there ? dot : 0, index % 2) * share * row.rstd * row.rstd;
    float sum[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      float d = row.dout.number(i), value = row.x.number(i);
      sum[i] = before.number(i) + (d * w.number(i) - value * pull) * row.rstd;
      sums[i] += d * (value * row.rstd);
    }
    if (is_there) store_floats(dx + place, 0, c, true, sum);
    row = next;
  }
}

// Numbers of a thread's pack beside each other in f32. Where a pack has 8 of them, two lanes write whole sectors together:
// first what is the one's, then what is the other's.
DEVICE void store_partial(float *row, int at, int c, const float *x, bf16) {
  if (c % 16 != 0) {
    if (at < c) store_f32<8>(row, at, c, c % 8 == 0 && is_packed(row, c), x); // all eight are the row's, or not at once
    return;
  }
  bool is_second = threadIdx.x % 2 == 1;
  float kept[4], taken[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    kept[i] = is_second ? x[4 + i] : x[i];
    taken[i] = __shfl_xor_sync(ALL_LANES, is_second ? x[i] : x[4 + i], 1);
  }
  if (at >= c) return;
  store_floats(row, is_second ? at - 4 : at, c, true, is_second ? taken : kept);
  store_floats(row, is_second ? at + 4 : at + 8, c, true, is_second ? kept : taken);
}
DEVICE void store_partial(float *row, int at, int c, const float *x, float) {
  if (at < c) store_floats(row, at, c, is_packed(row, c), x);
}

// partial (chunks, C) f32, a block a chunk. Where rows ARE_WHOLE all arrays consist of packs, at most one a thread and row.
template <bool ARE_WHOLE, typename T>
DEVICE void rmsnorm_backward(T *dx, float *partial, const T *dout, const T *x, const T *weight, const float *rstd, int n, int c, int chunk_rows) {
  float sums[Pack<T>::WIDTH] = {0};
  int first = blockIdx.x * chunk_rows, end = min(first + chunk_rows, n);
  float *to = partial + (size_t)blockIdx.x * c;
  if constexpr (ARE_WHOLE) {
    backward_rows(dx, sums, dout, x, weight, rstd, first, end, c, 1 / (float)c);
  } else {
    Row<T, 1> gains(weight, 0, c);
    for (int index = first; index < end; index++) backward_row(dx, to, sums, dout, x, gains, rstd[index], index, c, index == first);
  }
  store_partial(to, threadIdx.x * Pack<T>::WIDTH, c, sums, T{});
}

#define RMSNORM_BACKWARD(NAME, T, ARE_WHOLE, THREADS, BLOCKS)                                                                   \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) rmsnorm_backward_##NAME(T *dx, float *partial, const T *dout, const T *x, const T *weight, const float *rstd, int n, int c, int chunk_rows) { \
    rmsnorm_backward<ARE_WHOLE>(dx, partial, dout, x, weight, rstd, n, c, chunk_rows);                                          \
  }

RMSNORM_BACKWARD(bf16, bf16, false, MAX_THREADS, 1)
RMSNORM_BACKWARD(f32, float, false, MAX_THREADS, 1)
RMSNORM_BACKWARD(whole_bf16, bf16, true, WHOLE_THREADS, WHOLE_BLOCKS)
RMSNORM_BACKWARD(whole_f32, float, true, WHOLE_THREADS, WHOLE_BLOCKS)

// dWeight += Σ partial over chunks; a block of (32, 32) threads for 32 columns.
extern "C" __global__ void __launch_bounds__(SUM_COLUMNS * SUM_PARTS) rmsnorm_sum_chunks(float *dweight, const float *partial, int chunks, int c) {
  __shared__ float sums[SUM_PARTS][SUM_COLUMNS];
  int column = blockIdx.x * SUM_COLUMNS + threadIdx.x;
  float sum = 0;
  for (int first = threadIdx.y; first < chunks; first += SUMMED * SUM_PARTS) {
    float values[SUMMED];
#pragma unroll
    for (int i = 0; i < SUMMED; i++) {
      int chunk = first + i * SUM_PARTS;
      values[i] = chunk < chunks && column < c ? partial[(size_t)chunk * c + column] : 0;
    }
#pragma unroll
    for (int i = 0; i < SUMMED; i++) sum += values[i];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= c) return;
#pragma unroll
  for (int part = 1; part < SUM_PARTS; part++) sum += sums[part][threadIdx.x];
  dweight[column] += sum;
}
