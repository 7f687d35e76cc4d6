// Storing the keys and values of new tokens in their slots of the cache, a thread a pack of a head.

#include "device.cuh"

template <typename T>
DEVICE void kv_cache_append(T *keys, T *values, const T *qkv, const int *positions, int n, int t, int h, int k, int d, int s) {
  begin_dependent();
  constexpr int WIDTH = Pack<T>::WIDTH;
  int packs = (d + WIDTH - 1) / WIDTH;
  size_t index = grid_thread(), head = index / packs;
  if (head >= (size_t)n * 2 * k) return;
  int at = (int)(index % packs) * WIDTH, which = (int)(head % (2 * k));
  size_t row = head / (2 * k), slot = positions[row];
  T *cache = which < k ? keys : values;
  T *to = cache + ((row / t * k + which % k) * s + slot) * d;
  const T *from = qkv + (row * (h + 2 * k) + h + which) * d;
  store_pack(to, at, d, is_packed(cache, d), load_pack(from, at, d, is_packed(qkv, d)));
}

extern "C" __global__ void kv_cache_append_bf16(bf16 *keys, bf16 *values, const bf16 *qkv, const int *positions, int n, int t, int h, int k, int d, int s) {
  kv_cache_append(keys, values, qkv, positions, n, t, h, k, d, s);
}
extern "C" __global__ void kv_cache_append_f32(float *keys, float *values, const float *qkv, const int *positions, int n, int t, int h, int k, int d, int s) {
  kv_cache_append(keys, values, qkv, positions, n, t, h, k, d, s);
}
