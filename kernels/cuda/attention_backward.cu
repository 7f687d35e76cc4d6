// Attention backward on tensor cores, without atomics (after FlashAttention-2, Dao 2023, Algorithm 2): one kernel has a
// block for 64 keys of a key/value head, which walks over the queries of all heads of its group; another has a block for 64
// queries of a head, which walks over keys. Both make the weights P = exp(scores - lse) again, so that seven products are
// done instead of five, and every sum has one order. With dP = dOut · Vᵀ and dS = P (dP - delta), delta = Σ dOut · out:
// dV = Pᵀ dOut, dK = dSᵀ Q / √D, dQ = dS K / √D. Widths 64 and 128 in bf16.

#include "attention_tile.cuh"

struct Backward {
  bf16 *dqkv;
  const bf16 *dout, *qkv;
  const float *lse, *delta; // (B, H, T)
  int t, h, k;
};

// A tile of queries and what belongs to it; turns take two places by turns.
template <int D, int ROWS>
struct QueryTile {
  static constexpr int BYTES = ROWS * (2 * D * (int)sizeof(bf16) + 2 * (int)sizeof(float));
  Tile<D> queries, douts;
  float *lse, *delta;

  DEVICE QueryTile(unsigned char *places, int turn)
      : queries{(bf16 *)(places + turn % 2 * BYTES)}, douts{queries.rows + ROWS * D}, lse((float *)(douts.rows + ROWS * D)), delta(lse + ROWS) {}

  DEVICE void copy(const Backward &p, size_t sequence, int head, int first) const {
    size_t stride = (size_t)(p.h + 2 * p.k) * D, out_stride = (size_t)p.h * D, line = (sequence * p.h + head) * p.t;
    copy_tile<D, ROWS>(queries, p.qkv + sequence * p.t * stride + head * D, stride, first, p.t);
    copy_tile<D, ROWS>(douts, p.dout + sequence * p.t * out_stride + head * D, out_stride, first, p.t);
    int row = threadIdx.x % ROWS;
    bool is_there = first + row < p.t;
    if (threadIdx.x < ROWS) copy_async<4>(lse + row, p.lse + line + (is_there ? first + row : 0), is_there);
    else if (threadIdx.x < 2 * ROWS) copy_async<4>(delta + row, p.delta + line + (is_there ? first + row : 0), is_there);
  }
};

// Of a warp's 16 keys and a tile's queries: weights (scores become them) and dS (from dP), keys down and queries across.
template <int D, int ROWS>
DEVICE void weigh_keys(float weights[ROWS / 8][4], float dscores[ROWS / 8][4], const QueryTile<D, ROWS> &tile, int first_query, int key, float scale) {
  int lane_column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < ROWS / 8; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int column = n * 8 + lane_column + i % 2;
      bool is_seen = key + i / 2 * 8 <= first_query + column;
      float weight = is_seen ? exp2_fast(weights[n][i] * scale - tile.lse[column] * LOG2_E) : 0;
      weights[n][i] = weight;
      dscores[n][i] = weight * (dscores[n][i] - tile.delta[column]);
    }
  }
}

// Grid (tiles of keys, K, B). Dynamic shared memory: tiles of keys and values, then two query tiles.
template <int D, int ROWS>
DEVICE void backward_keys(const Backward &p) {
  unsigned char *shared = dynamic_shared();
  Tile<D> keys = {(bf16 *)shared}, values = {keys.rows + TILE_ROWS * D};
  unsigned char *turns = shared + 2 * TILE_ROWS * D * sizeof(bf16);
  int warp_row = threadIdx.x / WARP * WARP_ROWS, lane = threadIdx.x % WARP, kv = blockIdx.y, group = p.h / p.k;
  int first_key = blockIdx.x * TILE_ROWS, first_tile = first_key / ROWS;
  int tiles = (p.t + ROWS - 1) / ROWS - first_tile, turns_in_all = tiles * group;
  size_t sequence = blockIdx.z, stride = (size_t)(p.h + 2 * p.k) * D, at = sequence * p.t * stride + (p.h + kv) * D;
  copy_tile<D, TILE_ROWS>(keys, p.qkv + at, stride, first_key, p.t);
  copy_tile<D, TILE_ROWS>(values, p.qkv + at + p.k * D, stride, first_key, p.t);
  QueryTile<D, ROWS>(turns, 0).copy(p, sequence, kv * group, first_tile * ROWS);
  copy_async_commit();
  float dkeys[D / 8][4] = {}, dvalues[D / 8][4] = {}, root = 1 / sqrtf((float)D);
  for (int turn = 0; turn < turns_in_all; turn++) {
    int next = turn + 1;
    if (next < turns_in_all) {
      QueryTile<D, ROWS>(turns, next).copy(p, sequence, kv * group + next / tiles, (first_tile + next % tiles) * ROWS);
      copy_async_commit();
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    QueryTile<D, ROWS> tile(turns, turn);
    float weights[ROWS / 8][4], dscores[ROWS / 8][4];
    multiply_transposed<D, ROWS>(weights, keys, warp_row, tile.queries);
    multiply_transposed<D, ROWS>(dscores, values, warp_row, tile.douts);
    weigh_keys<D, ROWS>(weights, dscores, tile, (first_tile + turn % tiles) * ROWS, first_key + warp_row + lane / 4, root * LOG2_E);
    uint32_t fragments[ROWS / 16][4];
    to_fragments<ROWS>(fragments, weights);
    add_weighted<D, ROWS>(dvalues, fragments, tile.douts);
    to_fragments<ROWS>(fragments, dscores);
    add_weighted<D, ROWS>(dkeys, fragments, tile.queries);
    __syncthreads();
  }
  int row = first_key + warp_row;
  store_sums<D>(p.dqkv + at, stride, row, p.t, keys, warp_row, dkeys, root, root);
  store_sums<D>(p.dqkv + at + p.k * D, stride, row, p.t, values, warp_row, dvalues, 1, 1);
}

// Grid (tiles of queries, H, B). Dynamic shared memory: a query tile, then two tiles of keys and two of values.
template <int D, int KEYS>
DEVICE void backward_queries(const Backward &p) {
  unsigned char *shared = dynamic_shared();
  QueryTile<D, TILE_ROWS> tile(shared, 0);
  bf16 *turns = (bf16 *)(shared + QueryTile<D, TILE_ROWS>::BYTES);
  int warp_row = threadIdx.x / WARP * WARP_ROWS, lane = threadIdx.x % WARP, head = blockIdx.y, kv = head * p.k / p.h;
  int first = (gridDim.x - 1 - blockIdx.x) * TILE_ROWS, end = min(first + TILE_ROWS, p.t), tiles = (end + KEYS - 1) / KEYS;
  size_t sequence = blockIdx.z, stride = (size_t)(p.h + 2 * p.k) * D;
  const bf16 *key_rows = p.qkv + sequence * p.t * stride + (p.h + kv) * D, *value_rows = key_rows + p.k * D;
  tile.copy(p, sequence, head, first);
  KeyTile<D, KEYS>(turns, 0).copy(key_rows, value_rows, stride, 0, end);
  copy_async_commit();
  float dqueries[D / 8][4] = {}, root = 1 / sqrtf((float)D), scale = root * LOG2_E;
  for (int turn = 0; turn < tiles; turn++) {
    KeyTile<D, KEYS> now(turns, turn), next(turns, turn + 1);
    int first_key = turn * KEYS;
    if (turn + 1 < tiles) {
      next.copy(key_rows, value_rows, stride, first_key + KEYS, end);
      copy_async_commit();
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    float weights[KEYS / 8][4], dscores[KEYS / 8][4];
    multiply_transposed<D, KEYS>(weights, tile.queries, warp_row, now.keys);
    multiply_transposed<D, KEYS>(dscores, tile.douts, warp_row, now.values);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int row = warp_row + lane / 4 + i / 2 * 8;
      float lse = tile.lse[row] * LOG2_E, delta = tile.delta[row];
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
        bool is_seen = first_key + n * 8 + lane % 4 * 2 + i % 2 <= first + row;
        dscores[n][i] = is_seen ? exp2_fast(weights[n][i] * scale - lse) * (dscores[n][i] - delta) : 0;
      }
    }
    uint32_t fragments[KEYS / 16][4];
    to_fragments<KEYS>(fragments, dscores);
    add_weighted<D, KEYS>(dqueries, fragments, now.keys);
    __syncthreads();
  }
  bf16 *to = p.dqkv + sequence * p.t * stride + head * D;
  store_sums<D>(to, stride, first + warp_row, p.t, tile.queries, warp_row, dqueries, root, root);
}

#define ATTENTION_BACKWARD(D, ROWS)                                                                                          \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_backward_keys_##D(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int t, int h, int k) { \
    backward_keys<D, ROWS>({dqkv, dout, qkv, lse, delta, t, h, k});                                                         \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_backward_queries_##D(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int t, int h, int k) { \
    backward_queries<D, ROWS>({dqkv, dout, qkv, lse, delta, t, h, k});                                                      \
  }

// Wide heads leave registers for half as many rows at a time.
ATTENTION_BACKWARD(64, 64)
ATTENTION_BACKWARD(128, 32)
