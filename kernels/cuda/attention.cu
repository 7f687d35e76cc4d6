// Attention forward on tensor cores, within sequences and against the key/value cache (FlashAttention-2, Dao 2023). A block
// of four warps takes 64 queries of one head, a warp 16 of them; tiles of 64 keys and values come in turn, the next one
// while this one is used, and only as far as the block's last query sees. Widths 64 and 128 in bf16; all else is in
// attention_plain.cu. Memory traffic: queries and output once, keys and values once a block, from the cache mostly.

#include "attention_tile.cuh"

constexpr int KEYS = 64; // of a tile
constexpr float MINUS_INFINITY = -__builtin_huge_valf();

// One head of one sequence.
struct Head {
  bf16 *out;    // (T, D) with out_stride
  float *lse;   // (T) or null
  const bf16 *queries, *keys, *values;
  const int *positions; // (T); null: query t sees keys 0 ... t
  size_t out_stride, query_stride, key_stride;
  int t;
};

// The running softmax of the two rows of a lane.
struct RunningSoftmax {
  float most[2], sum[2];
};

// Scores (16 x KEYS) become weights relative to the running maximum; the sums so far are scaled to it.
template <int D>
DEVICE void weigh(RunningSoftmax &softmax, float scores[KEYS / 8][4], float acc[D / 8][4], float scale) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float most = softmax.most[half];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) most = fmaxf(most, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    most = quad_max(most);
    float factor = exp2_fast((softmax.most[half] - most) * scale), sum = 0;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; i++) {
        scores[n][i] = exp2_fast((scores[n][i] - most) * scale);
        sum += scores[n][i];
      }
    }
    softmax.most[half] = most;
    softmax.sum[half] = softmax.sum[half] * factor + sum;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
      acc[n][2 * half] *= factor;
      acc[n][2 * half + 1] *= factor;
    }
  }
}

// Keys that neither of the lane's rows may see get no weight.
DEVICE void mask(float scores[KEYS / 8][4], int first_key, const int last_seen[2]) {
  int column = first_key + threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (column + n * 8 + i % 2 > last_seen[i / 2]) scores[n][i] = MINUS_INFINITY;
  }
}

// The last key that any query of the block sees.
DEVICE int last_key(const Head &head, int first) {
  __shared__ int last;
  int end = min(first + TILE_ROWS, head.t) - 1;
  if (!head.positions) return end;
  if (threadIdx.x < WARP) {
    int most = 0;
    for (int row = first + threadIdx.x; row <= end; row += WARP) most = max(most, head.positions[row]);
    for (int distance = WARP / 2; distance > 0; distance /= 2) most = max(most, __shfl_xor_sync(ALL_LANES, most, distance));
    if (threadIdx.x == 0) last = most;
  }
  __syncthreads();
  return last;
}

// Dynamic shared memory: the queries' tile, then two tiles of keys and two of values.
template <int D>
DEVICE void attention_forward(const Head &head, int first) {
  bf16 *shared = (bf16 *)dynamic_shared();
  Tile<D> queries = {shared};
  bf16 *turns = shared + TILE_ROWS * D;
  int lane = threadIdx.x % WARP, warp_row = threadIdx.x / WARP * WARP_ROWS;
  int end = last_key(head, first) + 1, tiles = (end + KEYS - 1) / KEYS, last_seen[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = first + warp_row + lane / 4 + half * 8;
    last_seen[half] = row >= head.t ? 0 : head.positions ? head.positions[row] : row;
  }
  copy_tile<D, TILE_ROWS>(queries, head.queries, head.query_stride, first, head.t);
  KeyTile<D, KEYS>(turns, 0).copy(head.keys, head.values, head.key_stride, 0, end);
  copy_async_commit();
  uint32_t query[D / 16][4];
  float acc[D / 8][4] = {};
  float scale = LOG2_E / sqrtf((float)D);
  RunningSoftmax softmax = {{MINUS_INFINITY, MINUS_INFINITY}, {0, 0}};
  for (int tile = 0; tile < tiles; tile++) {
    KeyTile<D, KEYS> now(turns, tile), next(turns, tile + 1);
    int first_key = tile * KEYS;
    if (tile + 1 < tiles) {
      next.copy(head.keys, head.values, head.key_stride, first_key + KEYS, end);
      copy_async_commit();
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    if (tile == 0) {
#pragma unroll
      for (int step = 0; step < D / 16; step++) load_a(query[step], queries, warp_row, step);
    }
    float scores[KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; step++) add_product_step<D, KEYS>(scores, query[step], now.keys, step);
    if (first_key + KEYS - 1 > min(last_seen[0], last_seen[1])) mask(scores, first_key, last_seen);
    weigh<D>(softmax, scores, acc, scale);
    uint32_t weights[KEYS / 16][4];
    to_fragments<KEYS>(weights, scores);
    add_weighted<D, KEYS>(acc, weights, now.values);
    __syncthreads();
  }
  float sums[2] = {quad_sum(softmax.sum[0]), quad_sum(softmax.sum[1])};
  int row = first + warp_row;
  store_sums<D>(head.out, head.out_stride, row, head.t, queries, warp_row, acc, 1 / sums[0], 1 / sums[1]);
  if (!head.lse || lane % 4 > 0) return;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int at = row + lane / 4 + half * 8;
    if (at < head.t) head.lse[at] = softmax.most[half] * scale * LN_2 + logf(sums[half]);
  }
}

// Grid (tiles of queries, H, B); blocks with the most keys come first.
DEVICE int first_query() { return (gridDim.x - 1 - blockIdx.x) * TILE_ROWS; }

template <int D>
DEVICE void attention_within(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  int head = blockIdx.y, kv = head * k / h;
  size_t sequence = blockIdx.z, stride = (size_t)(h + 2 * k) * D;
  const bf16 *rows = qkv + sequence * t * stride;
  Head one = {out + (sequence * t * h + head) * D, lse ? lse + (sequence * h + head) * t : nullptr,
              rows + head * D, rows + (h + kv) * D, rows + (h + k + kv) * D, nullptr, (size_t)h * D, stride, stride, t};
  attention_forward<D>(one, first_query());
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_forward_64(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  attention_within<64>(out, lse, qkv, t, h, k);
}
extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_forward_128(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  attention_within<128>(out, lse, qkv, t, h, k);
}

template <int D>
DEVICE void attention_cached(bf16 *out, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int t, int h, int k, int s) {
  int head = blockIdx.y, kv = head * k / h;
  size_t sequence = blockIdx.z, stride = (size_t)(h + 2 * k) * D, cache = (sequence * k + kv) * s * D;
  Head one = {out + (sequence * t * h + head) * D, nullptr, qkv + sequence * t * stride + head * D, keys + cache,
              values + cache, positions + sequence * t, (size_t)h * D, stride, (size_t)D, t};
  attention_forward<D>(one, first_query());
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_cached_64(bf16 *out, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int t, int h, int k, int s) {
  attention_cached<64>(out, qkv, keys, values, positions, t, h, k, s);
}
extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_cached_128(bf16 *out, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int t, int h, int k, int s) {
  attention_cached<128>(out, qkv, keys, values, positions, t, h, k, s);
}
