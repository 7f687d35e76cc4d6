// What attention's gradient needs besides attention_backward.cu: the sums delta of every query, and the gradient itself for
// any width in bf16 and f32, where a warp takes a query or a key and 32 of the others at a time; unhurried. The notation is
// that of attention_backward.cu.

#include "device.cuh"

constexpr int THREADS = 128;
constexpr int MIN_BLOCKS = 4; // on a multiprocessor; leaves enough registers

struct Shape {
  int t, h, k, d;

  DEVICE size_t stride() const { return (size_t)(h + 2 * k) * d; }
  // Where a row's head begins in (B, T, H + 2 K, D) and in (B, T, H, D).
  DEVICE size_t in_qkv(size_t row, int head) const { return row * stride() + (size_t)head * d; }
  DEVICE size_t in_out(size_t row, int head) const { return (row * h + head) * d; }
  DEVICE size_t in_lse(size_t row, int head) const { return (row / t * h + head) * t + row % t; }
};

template <typename T>
DEVICE float dot(const float *x, const T *row, int d) {
  float sum = 0;
#pragma unroll 2
  for (int j = 0; j < d; j++) sum += x[j] * to_float(row[j]);
  return sum;
}

// delta (B, H, T) = Σ dOut · out, blockDim.x lanes (a power of two) a head of a row, a pack each at a time.
template <typename T>
DEVICE void attention_delta(float *delta, const T *dout, const T *out, int n, Shape s) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int index = block_row(), heads = n * s.h;
  const T *gradients = dout + (size_t)index * s.d, *values = out + (size_t)index * s.d;
  bool packed = is_packed(dout, s.d) && is_packed(out, s.d);
  float sum = 0;
  for (int at = threadIdx.x * WIDTH; at < s.d && index < heads; at += blockDim.x * WIDTH) {
    Pack<T> gradient = load_pack(gradients, at, s.d, packed), value = load_pack(values, at, s.d, packed);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) sum += gradient.number(i) * value.number(i);
  }
  for (int distance = blockDim.x / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
  if (threadIdx.x == 0 && index < heads) delta[s.in_lse(index / s.h, index % s.h)] = sum;
}

extern "C" __global__ void attention_delta_bf16(float *delta, const bf16 *dout, const bf16 *out, int n, int t, int h, int k, int d) {
  attention_delta(delta, dout, out, n, {t, h, k, d});
}
extern "C" __global__ void attention_delta_f32(float *delta, const float *dout, const float *out, int n, int t, int h, int k, int d) {
  attention_delta(delta, dout, out, n, {t, h, k, d});
}

// A warp's part of shared memory: four rows of D f32, of which the first two hold what the warp's row is and the others
// its gradients, and what each lane's row contributes. Contributions of 32 rows are added up before they join the gradient,
// which keeps long sums exact.
struct WarpMemory {
  float *mine, *other, *first_sum, *second_sum, *weights, *dscores;

  DEVICE explicit WarpMemory(int d) {
    mine = (float *)dynamic_shared() + (size_t)threadIdx.y * (4 * d + 2 * WARP);
    other = mine + d;
    first_sum = other + d;
    second_sum = first_sum + d;
    weights = second_sum + d;
    dscores = weights + WARP;
  }
};

// dQ of one head of a row, a warp each.
template <typename T>
DEVICE void gradient_of_query(T *dqkv, const T *dout, const T *qkv, const float *lse, const float *delta, int n, Shape s) {
  size_t index = (size_t)block_row(), row = index / s.h;
  if (row >= (size_t)n) return;
  int head = (int)(index % s.h), kv = head * s.k / s.h, lane = threadIdx.x, t = (int)(row % s.t), d = s.d;
  WarpMemory memory(d);
  float *query = memory.mine, *gradient = memory.other, *sums = memory.first_sum, root = 1 / sqrtf((float)d);
  for (int j = lane; j < d; j += WARP) {
    query[j] = to_float(qkv[s.in_qkv(row, head) + j]) * root;
    gradient[j] = to_float(dout[s.in_out(row, head) + j]);
    sums[j] = 0;
  }
  __syncwarp();
  for (int first = 0; first <= t; first += WARP) {
    int slot = min(first + lane, t), count = min(WARP, t + 1 - first);
    const T *key = qkv + s.in_qkv(row - t + slot, s.h + kv), *value = key + (size_t)s.k * d;
    float weight = expf(dot(query, key, d) - lse[s.in_lse(row, head)]);
    float dscore = weight * (dot(gradient, value, d) - delta[s.in_lse(row, head)]);
    memory.dscores[lane] = dscore * root;
    __syncwarp();
    const T *keys = qkv + s.in_qkv(row - t + first, s.h + kv);
    for (int j = lane; j < d; j += WARP) {
      float sum = 0;
      for (int i = 0; i < count; i++) sum += memory.dscores[i] * to_float(keys[i * s.stride() + j]);
      sums[j] += sum;
    }
    __syncwarp();
  }
  for (int j = lane; j < d; j += WARP) dqkv[s.in_qkv(row, head) + j] = from_float<T>(sums[j]);
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_gradient_queries_bf16(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int n, int t, int h, int k, int d) {
  gradient_of_query(dqkv, dout, qkv, lse, delta, n, {t, h, k, d});
}
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_gradient_queries_f32(float *dqkv, const float *dout, const float *qkv, const float *lse, const float *delta, int n, int t, int h, int k, int d) {
  gradient_of_query(dqkv, dout, qkv, lse, delta, n, {t, h, k, d});
}

// dK and dV of one head of a row, a warp each.
template <typename T>
DEVICE void gradient_of_key(T *dqkv, const T *dout, const T *qkv, const float *lse, const float *delta, int n, Shape s) {
  size_t index = (size_t)block_row(), row = index / s.k;
  if (row >= (size_t)n) return;
  int kv = (int)(index % s.k), group = s.h / s.k, lane = threadIdx.x, slot = (int)(row % s.t), d = s.d;
  WarpMemory memory(d);
  float *key = memory.mine, *value = memory.other, *dkey = memory.first_sum, *dvalue = memory.second_sum, root = 1 / sqrtf((float)d);
  size_t at = s.in_qkv(row, s.h + kv), value_at = at + (size_t)s.k * d;
  for (int j = lane; j < d; j += WARP) {
    key[j] = to_float(qkv[at + j]) * root;
    value[j] = to_float(qkv[value_at + j]);
    dkey[j] = dvalue[j] = 0;
  }
  __syncwarp();
  for (int head = kv * group; head < (kv + 1) * group; head++) {
    for (int first = slot; first < s.t; first += WARP) {
      int t = min(first + lane, s.t - 1), count = min(WARP, s.t - first);
      size_t other = row - slot + t;
      float weight = expf(dot(key, qkv + s.in_qkv(other, head), d) - lse[s.in_lse(other, head)]);
      float dscore = weight * (dot(value, dout + s.in_out(other, head), d) - delta[s.in_lse(other, head)]);
      memory.weights[lane] = weight;
      memory.dscores[lane] = dscore * root;
      __syncwarp();
      const T *queries = qkv + s.in_qkv(row - slot + first, head), *gradients = dout + s.in_out(row - slot + first, head);
      for (int j = lane; j < d; j += WARP) {
        float of_key = 0, of_value = 0;
        for (int i = 0; i < count; i++) {
          of_key += memory.dscores[i] * to_float(queries[i * s.stride() + j]);
          of_value += memory.weights[i] * to_float(gradients[(size_t)i * s.h * d + j]);
        }
        dkey[j] += of_key;
        dvalue[j] += of_value;
      }
      __syncwarp();
    }
  }
  for (int j = lane; j < d; j += WARP) {
    dqkv[at + j] = from_float<T>(dkey[j]);
    dqkv[value_at + j] = from_float<T>(dvalue[j]);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_gradient_keys_bf16(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int n, int t, int h, int k, int d) {
  gradient_of_key(dqkv, dout, qkv, lse, delta, n, {t, h, k, d});
}
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) attention_gradient_keys_f32(float *dqkv, const float *dout, const float *qkv, const float *lse, const float *delta, int n, int t, int h, int k, int d) {
  gradient_of_key(dqkv, dout, qkv, lse, delta, n, {t, h, k, d});
}
