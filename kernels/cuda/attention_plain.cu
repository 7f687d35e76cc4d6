// Attention without tensor cores, for any width in bf16 and f32: what decoding needs of one or few queries against a long
// cache, and what widths and types that attention.cu does not take need everywhere.
// Keys are cut into chunks of 64, each with a softmax of its own, that are combined in order (Flash-Decoding); the cut
// depends on the shape alone. A block brings a chunk's keys and values to shared memory, all at once since waiting for
// memory is what decoding spends its time on, and uses them for all query heads that share them.

#include "mma.cuh"

constexpr int CHUNK = 64; // keys with a softmax of their own
constexpr int THREADS = 256;
constexpr int MIN_BLOCKS = 3; // on a multiprocessor; leaves enough registers
constexpr int WARPS = THREADS / WARP;
constexpr int SHARES = THREADS / CHUNK; // threads that share a key, neighbours in a warp
constexpr int HEADS = 8;                // that a thread multiplies a key with at once

// Keys and values as rows with a stride.
template <typename T>
struct Slots {
  const T *keys, *values;
  size_t stride;
};

// A block's dynamic shared memory. Rows have whole packs, with zeros behind their D numbers.
template <typename T>
struct ChunkMemory {
  int stride;
  T *keys, *values; // (CHUNK, stride)
  float *queries;   // (group, stride)
  float *weights;   // (group, CHUNK)
  float *sums;      // (parts of the chunk, group, stride), in the place of the keys

  DEVICE ChunkMemory(int group, int d) {
    constexpr int WIDTH = Pack<T>::WIDTH;
    stride = (d + WIDTH - 1) / WIDTH * WIDTH;
    int row_bytes = CHUNK * stride * (int)sizeof(T), sum_bytes = max(THREADS * WIDTH, group * stride) * (int)sizeof(float);
    unsigned char *place = dynamic_shared();
    keys = (T *)place;
    sums = (float *)place;
    values = (T *)(place + max(row_bytes, sum_bytes));
    queries = (float *)((unsigned char *)values + row_bytes);
    weights = queries + group * stride;
  }
};

// `count` rows on their way to shared memory.
template <typename T>
DEVICE void stage_rows(T *to, int to_stride, const T *rows, size_t stride, bool packed, int d, int count) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int packs = to_stride / WIDTH;
#pragma unroll 2
  for (int i = threadIdx.x; i < count * packs; i += THREADS) {
    int row = i / packs, at = (i - row * packs) * WIDTH;
    if (packed) copy_async<16>(to + i * WIDTH, rows + row * stride + at, true);
    else *(Pack<T> *)(to + i * WIDTH) = load_pack(rows + row * stride, at, d, false);
  }
}

// weights = scores of a chunk's keys for the heads of a group.
template <typename T>
DEVICE void score_chunk(const ChunkMemory<T> &memory, int group, int count) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int slot = threadIdx.x / SHARES, share = threadIdx.x % SHARES;
  const T *key = memory.keys + min(slot, count - 1) * memory.stride;
#pragma unroll 1
  for (int first = 0; first < group; first += HEADS) {
    float sums[HEADS] = {0};
#pragma unroll 1
    for (int at = share * WIDTH; at < memory.stride; at += SHARES * WIDTH) {
      Pack<T> pack = *(const Pack<T> *)(key + at);
#pragma unroll
      for (int g = 0; g < HEADS; g++) {
        const float *query = memory.queries + min(first + g, group - 1) * memory.stride + at;
#pragma unroll
        for (int i = 0; i < WIDTH; i += 4) {
          Pack<float> four = *(const Pack<float> *)(query + i);
#pragma unroll
          for (int j = 0; j < 4; j++) sums[g] += four.number(j) * pack.number(i + j);
        }
      }
    }
#pragma unroll
    for (int g = 0; g < HEADS; g++) {
      float sum = sums[g];
      for (int distance = 1; distance < SHARES; distance *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
      if (share == 0 && first + g < group) memory.weights[(first + g) * CHUNK + slot] = sum;
    }
  }
}

// Scores of a chunk become weights relative to its maximum; sums (.., 2) = [maximum, Σ weights]. A warp a head.
DEVICE void weigh_chunk(float *weights, float *sums, size_t sums_stride, int group, int count) {
  int lane = threadIdx.x % WARP;
#pragma unroll 1
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

// outs = Σ weights · values; as many parts of the chunk as there are threads for are summed apart, then together.
template <typename T>
DEVICE void sum_chunk(float *outs, size_t outs_stride, const ChunkMemory<T> &memory, int group, int d, int count) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int packs = memory.stride / WIDTH, items = group * packs, parts = min(CHUNK, max(1, THREADS / items)), length = (CHUNK + parts - 1) / parts;
#pragma unroll 1
  for (int i = threadIdx.x; i < items * parts; i += THREADS) {
    int part = i / items, item = i - part * items, g = item / packs, at = (item - g * packs) * WIDTH;
    float sum[WIDTH] = {0};
#pragma unroll 4
    for (int slot = part * length; slot < min((part + 1) * length, count); slot++) {
      Pack<T> pack = *(const Pack<T> *)(memory.values + slot * memory.stride + at);
      float weight = memory.weights[g * CHUNK + slot];
#pragma unroll
      for (int j = 0; j < WIDTH; j++) sum[j] += weight * pack.number(j);
    }
    float *to = memory.sums + (part * group + g) * memory.stride + at;
#pragma unroll
    for (int j = 0; j < WIDTH; j += 4) *(Pack<float> *)(to + j) = Pack<float>::of(sum + j);
  }
  __syncthreads();
#pragma unroll 1
  for (int i = threadIdx.x; i < group * d; i += THREADS) {
    int g = i / d, j = i - g * d;
    float sum = 0;
#pragma unroll 4
    for (int part = 0; part < parts; part++) sum += memory.sums[(part * group + g) * memory.stride + j];
    outs[g * outs_stride + j] = sum;
  }
}

// One chunk of one query row for the `group` heads of a key/value head. outs (group, chunks, D) and sums (group, chunks, 2)
// begin at this chunk.
template <typename T>
DEVICE void attend_chunk(float *outs, float *sums, const T *query, const Slots<T> &slots, int group, int chunks, int d, int count) {
  ChunkMemory<T> memory(group, d);
  float root = 1 / sqrtf((float)d);
  bool packed = is_packed(slots.keys, d) && is_packed(slots.values, d) && slots.stride % Pack<T>::WIDTH == 0;
  stage_rows(memory.keys, memory.stride, slots.keys, slots.stride, packed, d, count);
  stage_rows(memory.values, memory.stride, slots.values, slots.stride, packed, d, count);
#pragma unroll 2
  for (int i = threadIdx.x; i < group * memory.stride; i += THREADS) {
    int g = i / memory.stride, j = i - g * memory.stride;
    memory.queries[i] = j < d ? to_float(query[g * d + j]) * root : 0;
  }
  copy_async_wait();
  __syncthreads();
  score_chunk(memory, group, count);
  __syncthreads();
  weigh_chunk(memory.weights, sums, (size_t)chunks * 2, group, count);
  __syncthreads();
  sum_chunk(outs, (size_t)chunks * d, memory, group, d, count);
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

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_within_bf16(float *outs, float *sums, const bf16 *qkv, int first, int chunks, int t, int h, int k, int d) {
  attention_within(outs, sums, qkv, first, chunks, t, h, k, d);
}
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_within_f32(float *outs, float *sums, const float *qkv, int first, int chunks, int t, int h, int k, int d) {
  attention_within(outs, sums, qkv, first, chunks, t, h, k, d);
}

template <typename T>
DEVICE void attention_slots(float *outs, float *sums, const T *qkv, const T *keys, const T *values, const int *positions, int first, int chunks, int t, int h, int k, int d, int s) {
  begin_dependent();
  int wave_row = blockIdx.x / chunks, chunk = blockIdx.x % chunks, kv = blockIdx.y, group = h / k;
  int row = first + wave_row, begin = chunk * CHUNK, count = min(CHUNK, positions[row] + 1 - begin);
  if (count <= 0) return;
  size_t stride = (size_t)(h + 2 * k) * d, at = ((size_t)wave_row * h + kv * group) * chunks + chunk;
  size_t cache = (((size_t)(row / t) * k + kv) * s + begin) * d;
  Slots<T> slots = {keys + cache, values + cache, (size_t)d};
  attend_chunk(outs + at * d, sums + at * 2, qkv + row * stride + (size_t)kv * group * d, slots, group, chunks, d, count);
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_slots_bf16(float *outs, float *sums, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int first, int chunks, int t, int h, int k, int d, int s) {
  attention_slots(outs, sums, qkv, keys, values, positions, first, chunks, t, h, k, d, s);
}
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_slots_f32(float *outs, float *sums, const float *qkv, const float *keys, const float *values, const int *positions, int first, int chunks, int t, int h, int k, int d, int s) {
  attention_slots(outs, sums, qkv, keys, values, positions, first, chunks, t, h, k, d, s);
}

// out of a wave's rows from their chunks, a block a head; without positions query t of a sequence has seen t + 1 keys.
// Dynamic shared memory, f32: sums of parts of the chunks, and a weight a chunk.
template <typename T>
DEVICE void attention_combine(T *out, float *lse, const float *outs, const float *sums, const int *positions, int first, int chunks, int t, int h, int d) {
  begin_dependent();
  constexpr int WIDTH = Pack<float>::WIDTH;
  int index = blockIdx.x, row = first + index / h, head = index % h, seen = positions ? positions[row] + 1 : row % t + 1;
  int count = (seen + CHUNK - 1) / CHUNK, packs = (d + WIDTH - 1) / WIDTH, parts = max(1, THREADS / packs);
  const float *all_sums = sums + (size_t)index * chunks * 2, *all_outs = outs + (size_t)index * chunks * d;
  float *totals = (float *)dynamic_shared(), *weights = totals + max(THREADS, packs) * WIDTH;
  float most = LOWEST, sum = 0;
  for (int c = threadIdx.x; c < count; c += THREADS) most = fmaxf(most, all_sums[2 * c]);
  most = row_max(most);
  for (int c = threadIdx.x; c < count; c += THREADS) {
    weights[c] = expf(all_sums[2 * c] - most);
    sum += all_sums[2 * c + 1] * weights[c];
  }
  sum = row_sum(sum); // its barriers stand between writing weights and reading them
  bool packed = is_packed(all_outs, d);
#pragma unroll 1
  for (int i = threadIdx.x; i < packs * parts; i += THREADS) {
    int part = i / packs, at = (i - part * packs) * WIDTH;
    float total[WIDTH] = {0};
#pragma unroll 4
    for (int c = part; c < count; c += parts) {
      Pack<float> pack = load_pack(all_outs + (size_t)c * d, at, d, packed);
#pragma unroll
      for (int j = 0; j < WIDTH; j++) total[j] += pack.number(j) * weights[c];
    }
    *(Pack<float> *)(totals + i * WIDTH) = Pack<float>::of(total);
  }
  __syncthreads();
#pragma unroll 1
  for (int j = threadIdx.x; j < d; j += THREADS) {
    float total = 0;
#pragma unroll 4
    for (int part = 0; part < parts; part++) total += totals[part * packs * WIDTH + j];
    out[((size_t)row * h + head) * d + j] = from_float<T>(total / sum);
  }
  if (lse && threadIdx.x == 0) lse[((size_t)(row / t) * h + head) * t + row % t] = most + logf(sum);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_combine_bf16(bf16 *out, float *lse, const float *outs, const float *sums, const int *positions, int first, int chunks, int t, int h, int d) {
  attention_combine(out, lse, outs, sums, positions, first, chunks, t, h, d);
}
extern "C" __global__ void __launch_bounds__(THREADS) attention_combine_f32(float *out, float *lse, const float *outs, const float *sums, const int *positions, int first, int chunks, int t, int h, int d) {
  attention_combine(out, lse, outs, sums, positions, first, chunks, t, h, d);
}
