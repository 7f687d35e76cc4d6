// Attention forward on tensor cores, within sequences and against the key/value cache (FlashAttention-2, Dao 2023). A block
// of four warps takes 128 queries of one head, a warp 32 of them; tiles of keys and values come in turn, the next one while
// this one is used, and only as far as the block's last query sees. Widths 64 and 128 in bf16; all else is in
// attention_plain.cu. Memory traffic: queries and output once, keys and values once a block, from the cache mostly.

#include "attention_tile.cuh"

constexpr int M = 2; // stripes of a warp
constexpr int WARP_ROWS = M * STRIPE;
constexpr int ROWS = TILE_WARPS * WARP_ROWS;

// Keys of a tile: wide heads leave registers for fewer.
template <int D>
constexpr int KEYS_OF = D == 64 ? 64 : 32;

// One head of one sequence.
struct Head {
  bf16 *out;    // (T, D) with out_stride
  float *lse;   // (T) or null
  const bf16 *queries, *keys, *values;
  const int *positions; // (T); null: query t sees keys 0 ... t
  int out_stride, query_stride, key_stride;
  int t;

  // Rows from T on are not there, and may see anything.
  DEVICE int last_seen(int row) const { return positions ? positions[min(row, t - 1)] : row; }
};

// The running softmax of a lane's rows: weights are 2^(scaled score - most), of which the greatest, 1, survives rounding.
struct RunningSoftmax {
  float most[M][2], sum[M][2];
};

// Takes note of the greatest scaled scores of a tile; what was summed so far is scaled where a row of the warp has a
// greater one than before.
template <int D>
DEVICE void raise(RunningSoftmax &softmax, const float greatest[M][2], float acc[M][D / 8][4]) {
  bool is_greater = false;
#pragma unroll
  for (int m = 0; m < M; m++) is_greater = is_greater || greatest[m][0] > softmax.most[m][0] || greatest[m][1] > softmax.most[m][1];
  if (!__any_sync(ALL_LANES, is_greater)) return;
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = fmaxf(softmax.most[m][half], greatest[m][half]), factor = exp2_fast(softmax.most[m][half] - most);
      softmax.most[m][half] = most;
      softmax.sum[m][half] *= factor;
#pragma unroll
      for (int n = 0; n < D / 8; n++) {
        acc[m][n][2 * half] *= factor;
        acc[m][n][2 * half + 1] *= factor;
      }
    }
  }
}

// Scores (32 x N) become weights, `scale` times log2 e included.
template <int D, int N>
DEVICE void weigh(RunningSoftmax &softmax, float scores[M][N / 8][4], float acc[M][D / 8][4], float scale) {
  float greatest[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float of_lane = MINUS_INFINITY;
#pragma unroll
      for (int n = 0; n < N / 8; n++) of_lane = fmaxf(of_lane, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
      greatest[m][half] = quad_max(of_lane) * scale;
    }
  }
  raise<D>(softmax, greatest, acc);
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        scores[m][n][i] = exp2_fast(scores[m][n][i] * scale - softmax.most[m][i / 2]);
        softmax.sum[m][i / 2] += scores[m][n][i];
      }
    }
  }
}

// The least and the greatest of a warp's numbers.
struct Range {
  int least, most;

  DEVICE void meet_lanes() {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
      least = min(least, __shfl_xor_sync(ALL_LANES, least, distance));
      most = max(most, __shfl_xor_sync(ALL_LANES, most, distance));
    }
  }
};

// The last keys that queries from `first` on see, of those before `end`; most is -1 where there are none.
DEVICE Range last_seen_of(const Head &head, int first, int end) {
  if (!head.positions) return {first, first < end ? end - 1 : -1};
  Range range = {0x7fffffff, -1};
#pragma unroll 1
  for (int row = first + threadIdx.x % WARP; row < end; row += WARP) {
    int seen = head.last_seen(row);
    range.least = min(range.least, seen);
    range.most = max(range.most, seen);
  }
  range.meet_lanes();
  return range;
}

// Dynamic shared memory: the queries' tile, then two tiles of keys and two of values.
template <int D>
DEVICE void attention_forward(const Head &head, int first) {
  constexpr int KEYS = KEYS_OF<D>;
  bf16 *shared = (bf16 *)dynamic_shared();
  Tile<D> queries = {shared};
  bf16 *turns = shared + ROWS * D;
  int warp_row = threadIdx.x / WARP * WARP_ROWS, row = first + warp_row;
  int end = last_seen_of(head, first, min(first + ROWS, head.t)).most + 1, last_seen[M][2];
  Range seen = last_seen_of(head, row, min(row + WARP_ROWS, head.t));
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) last_seen[m][half] = head.last_seen(row + stripe_row(m, half));
  }
  copy_tile<D, ROWS>(queries, head.queries, head.query_stride, first, head.t);
  KeyTile<D, KEYS>(turns, 0).copy(head.keys, head.values, head.key_stride, 0, end);
  copy_async_wait();
  __syncthreads();
  WarpRows<D, M, D == 64> query_rows(queries, warp_row);
  query_rows.keep();
  float acc[M][D / 8][4] = {};
  float scale = LOG2_E / sqrtf((float)D);
  RunningSoftmax softmax = {{{MINUS_INFINITY, MINUS_INFINITY}, {MINUS_INFINITY, MINUS_INFINITY}}, {}};
  for (int first_key = 0; first_key < end; first_key += KEYS) {
    int turn = first_key / KEYS;
    KeyTile<D, KEYS> tile(turns, turn);
    copy_async_wait();
    __syncthreads();
    if (first_key + KEYS < end) KeyTile<D, KEYS>(turns, turn + 1).copy(head.keys, head.values, head.key_stride, first_key + KEYS, end);
    if (first_key > seen.most) continue;
    float scores[M][KEYS / 8][4];
    query_rows.template multiply<KEYS>(scores, tile.keys);
    if (first_key + KEYS - 1 > seen.least) mask_keys<M, KEYS>(scores, first_key, last_seen);
    weigh<D, KEYS>(softmax, scores, acc, scale);
    add_weighted<D, M, KEYS>(acc, scores, tile.values);
  }
  float factors[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float sum = quad_sum(softmax.sum[m][half]);
      int at = row + stripe_row(m, half);
      factors[m][half] = __fdividef(1, sum);
      if (head.lse && threadIdx.x % 4 == 0 && at < head.t) head.lse[at] = softmax.most[m][half] * LN_2 + logf(sum);
    }
  }
  store_sums<D, M>(head.out, head.out_stride, row, head.t, queries, warp_row, acc, factors);
}

// Grid (H, B, tiles of queries): heads that share keys run together, and blocks with the most keys come first.
DEVICE int first_query() { return (gridDim.z - 1 - blockIdx.z) * ROWS; }

template <int D>
DEVICE void attention_within(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  int head = blockIdx.x, kv = head * k / h;
  size_t sequence = blockIdx.y;
  int stride = (h + 2 * k) * D;
  const bf16 *rows = qkv + sequence * t * stride;
  Head one = {out + (sequence * t * h + head) * D, lse ? lse + (sequence * h + head) * t : nullptr,
              rows + head * D, rows + (h + kv) * D, rows + (h + k + kv) * D, nullptr, h * D, stride, stride, t};
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
  int head = blockIdx.x, kv = head * k / h;
  int stride = (h + 2 * k) * D;
  size_t sequence = blockIdx.y, cache = (sequence * k + kv) * s * D;
  Head one = {out + (sequence * t * h + head) * D, nullptr, qkv + sequence * t * stride + head * D, keys + cache,
              values + cache, positions + sequence * t, h * D, stride, D, t};
  attention_forward<D>(one, first_query());
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_cached_64(bf16 *out, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int t, int h, int k, int s) {
  attention_cached<64>(out, qkv, keys, values, positions, t, h, k, s);
}
extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_cached_128(bf16 *out, const bf16 *qkv, const bf16 *keys, const bf16 *values, const int *positions, int t, int h, int k, int s) {
  attention_cached<128>(out, qkv, keys, values, positions, t, h, k, s);
}
