// Attention without tensor cores, for any width in bf16 and f32: what decoding needs of one or few queries against a long
// cache, and what widths and types that attention.cu does not take need everywhere.
// Forward: keys are cut into chunks of 64, each with a softmax of its own, that are combined in order (Flash-Decoding); the
// cut depends on the shape alone. A block reads a chunk once for all query heads that share it. Backward: a warp a query or
// a key, 32 of the others at a time; unhurried.

#include "device.cuh"

constexpr int CHUNK = 64; // keys with a softmax of their own
constexpr int THREADS = 128;
constexpr int WARPS = THREADS / WARP;

// Keys and values as rows with a stride.
template <typename T>
struct Slots {
  const T *keys, *values;
  size_t stride;
};

template <typename T>
DEVICE float dot(const float *query, const T *row, int d, bool packed) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  float sum = 0;
  for (int at = 0; at < d; at += WIDTH) {
    float x[WIDTH];
    load_floats(x, row, at, d, packed);
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
      if (at + i < d) sum += query[at + i] * x[i];
  }
  return sum;
}

// Scores of a chunk become weights relative to its maximum; sums (.., 2) = [maximum, Σ weights]. A warp a head.
DEVICE void weigh_chunk(float *weights, float *sums, size_t sums_stride, int group, int count) {
  int lane = threadIdx.x % WARP;
  for (int g = threadIdx.x / WARP; g < group; g += WARPS) {
    float most = LOWEST, sum = 0;
    for (int slot = lane; slot < count; slot += WARP) most = fmaxf(most, weights[g * CHUNK + slot]);
    most = warp_max(most);
    for (int slot = lane; slot < count; slot += WARP) {
      float weight = expf(weights[g * CHUNK + slot] - most);
      weights[g * CHUNK + slot] = weight;
      sum += weight;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      sums[g * sums_stride] = most;
      sums[g * sums_stride + 1] = sum;
    }
  }
}

// One chunk of one query row for the `group` heads of a key/value head. outs (group, chunks, D) and sums (group, chunks, 2)
// begin at this chunk. Dynamic shared memory: queries (group, D), weights (group, CHUNK), f32.
template <typename T>
DEVICE void attend_chunk(float *outs, float *sums, const T *query, Slots<T> slots, int group, int chunks, int d, int count) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  float *queries = (float *)dynamic_shared(), *weights = queries + group * d;
  float root = 1 / sqrtf((float)d);
  bool packed = is_packed(slots.keys, d) && is_packed(slots.values, d) && slots.stride % WIDTH == 0;
  for (int i = threadIdx.x; i < group * d; i += THREADS) queries[i] = to_float(query[i]) * root;
  __syncthreads();
  for (int i = threadIdx.x; i < group * CHUNK; i += THREADS) {
    int g = i / CHUNK, slot = i % CHUNK;
    if (slot < count) weights[i] = dot(queries + g * d, slots.keys + slot * slots.stride, d, packed);
  }
  __syncthreads();
  weigh_chunk(weights, sums, (size_t)chunks * 2, group, count);
  __syncthreads();
  int packs = (d + WIDTH - 1) / WIDTH;
  for (int i = threadIdx.x; i < group * packs; i += THREADS) {
    int g = i / packs, at = i % packs * WIDTH;
    float sum[WIDTH] = {0}, x[WIDTH];
#pragma unroll 4
    for (int slot = 0; slot < count; slot++) {
      load_floats(x, slots.values + slot * slots.stride, at, d, packed);
#pragma unroll
      for (int j = 0; j < WIDTH; j++) sum[j] += weights[g * CHUNK + slot] * x[j];
    }
    float *to = outs + (size_t)g * chunks * d;
    for (int j = 0; j < WIDTH && at + j < d; j++) to[at + j] = sum[j];
  }
}

// A wave is query rows (b, t) = first ... first + gridDim.x / chunks - 1; grid (rows x chunks, K). outs and sums hold
// (rows, H, chunks) of D and of 2.
template <typename T>
DEVICE void attention_within(float *outs, float *sums, const T *qkv, int first, int chunks, int t, int h, int k, int d) {
  int wave_row = blockIdx.x / chunks, chunk = blockIdx.x % chunks, kv = blockIdx.y, group = h / k;
  int row = first + wave_row, begin = chunk * CHUNK, count = min(CHUNK, row % t + 1 - begin);
  if (count <= 0) return;
  size_t stride = (size_t)(h + 2 * k) * d, at = ((size_t)wave_row * h + kv * group) * chunks + chunk;
  const T *keys = qkv + ((size_t)(row / t) * t + begin) * stride + (size_t)(h + kv) * d;
  Slots<T> slots = {keys, keys + (size_t)k * d, stride};
  attend_chunk(outs + at * d, sums + at * 2, qkv + row * stride + (size_t)kv * group * d, slots, group, chunks, d, count);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_within_bf16(float *outs, float *sums, const bf16 *qkv, int first, int chunks, int t, int h, int k, int d) {
  attention_within(outs, sums, qkv, first, chunks, t, h, k, d);
}
extern "C" __global__ void __launch_bounds__(THREADS) attention_within_f32(float *outs, float *sums, const float *qkv, int first, int chunks, int t, int h, int k, int d) {
  attention_within(outs, sums, qkv, first, chunks, t, h, k, d);
}

template <typename T>
DEVICE void attention_slots(float *outs, float *sums, const T *qkv, const T *keys, const T *values, const int *positions, int first, int chunks, int t, int h, int k, int d, int s) {
  int wave_row = blockIdx.x / chunks, chunk = blockIdx.x % chunks, kv = blockIdx.y, group = h / k;
  int row = first + wave_row, begin = chunk * CHUNK, count = min(CHUNK, positions[row] + 1 - begin);
  if (count <= 0) return;
  size_t stride = (size_t)(h + 2 * k) * d, at = ((size_t)wave_row * h + kv * group) * chunks + chunk;
  size_t cache = (((size_t)(row / t) * k + kv) * s + begin) * d;
  Slots<T> slots = {keys + cache, values + cache, (size_t)d};
  attend_chunk(outs + at * d, sums + at * 2, qkv + row * stride + (size_t)kv * group * d, slots, group, chunks, d, count);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_slots_bf16(float *outs, float *sums, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int first, int chunks, int t, int h, int k, int d, int s) {
  attention_slots(outs, sums, qkv, keys, values, positions, first, chunks, t, h, k, d, s);
}
extern "C" __global__ void __launch_bounds__(THREADS) attention_slots_f32(float *outs, float *sums, const float *qkv, const float *keys, const float *values, const int *positions, int first, int chunks, int t, int h, int k, int d, int s) {
  attention_slots(outs, sums, qkv, keys, values, positions, first, chunks, t, h, k, d, s);
}

// out of a wave's rows from their chunks, a warp a head; without positions query t of a sequence has seen t + 1 keys.
template <typename T>
DEVICE void attention_combine(T *out, float *lse, const float *outs, const float *sums, const int *positions, int first, int rows, int chunks, int t, int h, int d) {
  int index = block_row();
  if (index >= rows * h) return;
  int row = first + index / h, head = index % h, seen = positions ? positions[row] + 1 : row % t + 1;
  int count = (seen + CHUNK - 1) / CHUNK;
  const float *all_sums = sums + (size_t)index * chunks * 2, *all_outs = outs + (size_t)index * chunks * d;
  float most = LOWEST, sum = 0;
  for (int c = 0; c < count; c++) most = fmaxf(most, all_sums[2 * c]);
  for (int c = 0; c < count; c++) sum += all_sums[2 * c + 1] * expf(all_sums[2 * c] - most);
  for (int j = threadIdx.x; j < d; j += WARP) {
    float total = 0;
    for (int c = 0; c < count; c++) total += all_outs[(size_t)c * d + j] * expf(all_sums[2 * c] - most);
    out[((size_t)row * h + head) * d + j] = from_float<T>(total / sum);
  }
  if (lse && threadIdx.x == 0) lse[((size_t)(row / t) * h + head) * t + row % t] = most + logf(sum);
}

extern "C" __global__ void attention_combine_bf16(bf16 *out, float *lse, const float *outs, const float *sums, const int *positions, int first, int rows, int chunks, int t, int h, int d) {
  attention_combine(out, lse, outs, sums, positions, first, rows, chunks, t, h, d);
}
extern "C" __global__ void attention_combine_f32(float *out, float *lse, const float *outs, const float *sums, const int *positions, int first, int rows, int chunks, int t, int h, int d) {
  attention_combine(out, lse, outs, sums, positions, first, rows, chunks, t, h, d);
}
