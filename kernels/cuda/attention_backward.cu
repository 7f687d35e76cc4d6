// Attention backward on tensor cores, without atomics (after FlashAttention-2, Dao 2023, Algorithm 2): one kernel has a
// block for a tile of keys of a key/value head, which walks over the queries of all heads of its group; another has a block
// for 128 queries of a head, which walks over keys. Both make the weights P = exp(scores - lse) again, so that seven
// products are done instead of five, and every sum has one order. With dP = dOut · Vᵀ and dS = P (dP - delta),
// delta = Σ dOut · out: dV = Pᵀ dOut, dK = dSᵀ Q / √D, dQ = dS K / √D. Widths 64 and 128 in bf16. Where key/value heads are
// too few to fill the device, several blocks share the heads of a group, and a third kernel adds what they have found.

#include "attention_backward.cuh"

// How a kernel cuts its work: stripes of a warp, rows of the operand that comes in turns, and how many of these make a step
// of computing. Wide heads leave fewer registers, and none to keep a warp's rows in.
template <int STRIPES, int TURN_ROWS, int STEP_ROWS, bool IS_KEPT>
struct Cut {
  static constexpr int M = STRIPES, TURN = TURN_ROWS, STEP = STEP_ROWS;
  static constexpr int WARP_ROWS = M * STRIPE, ROWS = TILE_WARPS * WARP_ROWS;
  static constexpr bool KEPT = IS_KEPT;
  // Shared memory holds two places for turns and a warp's own rows, in this order. Rows kept in registers leave theirs to
  // the second turn, so that two blocks fit on a multiprocessor with 100 KB.
  static constexpr int PLACES_BEFORE_ROWS = KEPT ? 1 : 2;

  // After the last turn: until rows may be written over.
  static DEVICE void free_rows() {
    if (KEPT) __syncthreads();
  }
};

// A tile of queries, their gradients and two statistics of each; turns take two places by turns.
template <int D, int ROWS>
struct QueryTile {
  static constexpr int BYTES = ROWS * (2 * D * (int)sizeof(bf16) + 2 * (int)sizeof(float));
  Tile<D> queries, douts;
  float *statistics; // (ROWS, 2): lse and delta

  DEVICE QueryTile(unsigned char *places, int turn)
      : queries{(bf16 *)(places + turn % 2 * BYTES)}, douts{queries.rows + ROWS * D}, statistics((float *)(douts.rows + ROWS * D)) {}

  // With log2 e included.
  DEVICE float lse(int row) const { return statistics[2 * row] * LOG2_E; }
  DEVICE float delta(int row) const { return statistics[2 * row + 1]; }

  DEVICE void copy(const Backward &p, size_t sequence, int head, int first) const {
    int stride = (p.h + 2 * p.k) * D, out_stride = p.h * D;
    size_t line = (sequence * p.h + head) * p.t + first;
    copy_tile<D, ROWS>(queries, p.qkv + sequence * p.t * stride + head * D, stride, first, p.t);
    copy_tile<D, ROWS>(douts, p.dout + sequence * p.t * out_stride + head * D, out_stride, first, p.t);
    const float *of_lane = (threadIdx.x % 2 ? p.delta : p.lse) + line;
#pragma unroll
    for (int i = 0; i < 2 * ROWS; i += TILE_THREADS) {
      int at = i + threadIdx.x, row = at / 2;
      if (at < 2 * ROWS) copy_async<4>(statistics + at, of_lane + row, first + row < p.t);
    }
  }
};

// The tile of a turn of backward_keys. Turns are numbered by tiles of queries and, within these, by the heads of a split;
// `left` is the number of this one, since the last comes first.
template <int D, int ROWS>
DEVICE void copy_turn(unsigned char *turns, int turn, const Backward &p, int left) {
  QueryTile<D, ROWS>(turns, turn).copy(p, blockIdx.y, blockIdx.x * p.heads + left % p.heads, left / p.heads * ROWS);
}

// Grid (K · splits, B, tiles of keys): blocks with the most queries come first; a split has some heads of a group. All blocks
// of a split begin with the last queries, of one head after the other, so that they meet the same ones at about the same
// time. Dynamic shared memory: turns are query tiles, rows are a tile of keys and one of values.
template <int D, typename C>
DEVICE void backward_keys(const Backward &p) {
  constexpr int M = C::M, STEP = C::STEP;
  unsigned char *turns = dynamic_shared();
  Tile<D> keys = {(bf16 *)(turns + C::PLACES_BEFORE_ROWS * QueryTile<D, C::TURN>::BYTES)}, values = {keys.rows + C::ROWS * D};
  int warp_row = threadIdx.x / WARP * C::WARP_ROWS, kv = blockIdx.x / p.splits, stride = (p.h + 2 * p.k) * D;
  int first_key = blockIdx.z * C::ROWS, warp_key = first_key + warp_row;
  size_t sequence = blockIdx.y, at = sequence * p.t * stride + (p.h + kv) * D;
  int least = blockIdx.z * (C::ROWS / C::TURN) * p.heads, most = ((p.t - 1) / C::TURN + 1) * p.heads - 1;
  copy_tile<D, C::ROWS>(keys, p.qkv + at, stride, first_key, p.t);
  copy_tile<D, C::ROWS>(values, p.qkv + at + p.k * D, stride, first_key, p.t);
  copy_turn<D, C::TURN>(turns, 0, p, most);
  copy_async_wait();
  __syncthreads();
  WarpRows<D, M, C::KEPT> key_rows(keys, warp_row), value_rows(values, warp_row);
  key_rows.keep();
  value_rows.keep();
  float dkeys[M][D / 8][4] = {}, dvalues[M][D / 8][4] = {}, root = 1 / sqrtf((float)D);
  for (int left = most; left >= least; left--) {
    QueryTile<D, C::TURN> tile(turns, most - left);
    int first_query = left / p.heads * C::TURN;
    copy_async_wait();
    __syncthreads();
    if (left > least) copy_turn<D, C::TURN>(turns, most - left + 1, p, left - 1);
#pragma unroll 1
    for (int step = 0; step < C::TURN; step += STEP) {
      if (first_query + step + STEP <= warp_key) continue;
      float weights[M][STEP / 8][4], dscores[M][STEP / 8][4];
      Tile<D> queries = tile.queries.from(step), douts = tile.douts.from(step);
      key_rows.template multiply<STEP>(weights, queries);
      value_rows.template multiply<STEP>(dscores, douts);
      if (first_query + step < warp_key + C::WARP_ROWS - 1) mask_queries<M, STEP>(weights, first_query + step, warp_key);
      weigh_keys<M, STEP>(weights, dscores, tile.statistics + 2 * step, root * LOG2_E);
      add_weighted<D, M, STEP>(dvalues, weights, douts);
      add_weighted<D, M, STEP>(dkeys, dscores, queries);
    }
  }
  if (p.splits > 1) {
    int width = 2 * p.k * D;
    float *part = p.parts + ((blockIdx.x % p.splits * gridDim.y + sequence) * p.t) * width + kv * D;
    store_part<D, M>(part, width, warp_key, p.t, dkeys, root);
    store_part<D, M>(part + p.k * D, width, warp_key, p.t, dvalues, 1);
    return;
  }
  C::free_rows();
  float roots[M][2], ones[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) {
    roots[m][0] = roots[m][1] = root;
    ones[m][0] = ones[m][1] = 1;
  }
  store_sums<D, M>(p.dqkv + at, stride, warp_key, p.t, keys, warp_row, dkeys, roots);
  store_sums<D, M>(p.dqkv + at + p.k * D, stride, warp_key, p.t, values, warp_row, dvalues, ones);
}

// Grid (H, B, tiles of queries): heads that share keys run together, blocks with the most keys come first. Dynamic shared
// memory: turns are a tile of keys and one of values, rows are a query tile.
template <int D, typename C>
DEVICE void backward_queries(const Backward &p) {
  constexpr int M = C::M, STEP = C::STEP;
  typedef QueryTile<D, C::ROWS> Queries;
  bf16 *turns = (bf16 *)dynamic_shared();
  Queries tile((unsigned char *)(turns + C::PLACES_BEFORE_ROWS * 2 * C::TURN * D), 0);
  int warp_row = threadIdx.x / WARP * C::WARP_ROWS, head = blockIdx.x, kv = head * p.k / p.h, stride = (p.h + 2 * p.k) * D;
  int first = (gridDim.z - 1 - blockIdx.z) * C::ROWS, end = min(first + C::ROWS, p.t), warp_query = first + warp_row;
  size_t sequence = blockIdx.y;
  const bf16 *key_rows = p.qkv + sequence * p.t * stride + (p.h + kv) * D, *value_rows = key_rows + p.k * D;
  tile.copy(p, sequence, head, first);
  KeyTile<D, C::TURN>(turns, 0).copy(key_rows, value_rows, stride, 0, end);
  copy_async_wait();
  __syncthreads();
  WarpRows<D, M, C::KEPT> query_rows(tile.queries, warp_row), dout_rows(tile.douts, warp_row);
  query_rows.keep();
  dout_rows.keep();
  float dqueries[M][D / 8][4] = {}, root = 1 / sqrtf((float)D), scale = root * LOG2_E, lse[M][2], delta[M][2], roots[M][2];
  int last_seen[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = warp_row + stripe_row(m, half);
      lse[m][half] = tile.lse(row);
      delta[m][half] = tile.delta(row);
      last_seen[m][half] = first + row;
      roots[m][half] = root;
    }
  }
  for (int turn = 0, turn_key = 0; turn_key < end; turn++, turn_key += C::TURN) {
    KeyTile<D, C::TURN> now(turns, turn);
    copy_async_wait();
    __syncthreads();
    if (turn_key + C::TURN < end) KeyTile<D, C::TURN>(turns, turn + 1).copy(key_rows, value_rows, stride, turn_key + C::TURN, end);
#pragma unroll 1
    for (int step = 0; step < C::TURN; step += STEP) {
      int first_key = turn_key + step;
      if (first_key >= warp_query + C::WARP_ROWS) break;
      float weights[M][STEP / 8][4], dscores[M][STEP / 8][4];
      Tile<D> keys = now.keys.from(step);
      query_rows.template multiply<STEP>(weights, keys);
      dout_rows.template multiply<STEP>(dscores, now.values.from(step));
      if (first_key + STEP - 1 > warp_query) mask_keys<M, STEP>(weights, first_key, last_seen);
#pragma unroll
      for (int m = 0; m < M; m++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          // Where rows are read again, their statistics are too: registers are short there.
          int row = warp_row + stripe_row(m, i / 2);
          float row_lse = C::KEPT ? lse[m][i / 2] : tile.lse(row), row_delta = C::KEPT ? delta[m][i / 2] : tile.delta(row);
#pragma unroll
          for (int n = 0; n < STEP / 8; n++) dscores[m][n][i] = exp2_fast(weights[m][n][i] * scale - row_lse) * (dscores[m][n][i] - row_delta);
        }
      }
      add_weighted<D, M, STEP>(dqueries, dscores, keys);
    }
  }
  C::free_rows();
  bf16 *to = p.dqkv + sequence * p.t * stride + head * D;
  store_sums<D, M>(to, stride, warp_query, p.t, tile.queries, warp_row, dqueries, roots);
}

typedef Cut<2, 64, 16, true> Keys64;
typedef Cut<2, 64, 32, true> Queries64;
typedef Cut<1, 32, 32, false> Keys128;
typedef Cut<2, 32, 32, false> Queries128;

#define ATTENTION_BACKWARD(D)                                                                                                \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_backward_keys_##D(bf16 *dqkv, float *parts, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int t, int h, int k, int splits, int heads) { \
    backward_keys<D, Keys##D>({dqkv, dout, qkv, lse, delta, t, h, k, parts, splits, heads});                                              \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_backward_queries_##D(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int t, int h, int k) { \
    backward_queries<D, Queries##D>({dqkv, dout, qkv, lse, delta, t, h, k});                                        \
  }

ATTENTION_BACKWARD(64)
ATTENTION_BACKWARD(128)

// dK and dV, the last `width` numbers of each of `rows` rows of dqkv, from the parts of all splits, in their order. A thread
// has one pack.
extern "C" __global__ void attention_backward_sum(bf16 *dqkv, const float *parts, int splits, int rows, int width, int stride) {
  constexpr int WIDTH = Pack<bf16>::WIDTH;
  size_t count = (size_t)rows * width, at = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
  if (at >= count) return;
  float sum[WIDTH] = {0};
#pragma unroll 4
  for (int split = 0; split < splits; split++) {
    float part[WIDTH];
    load_f32<WIDTH>(part, parts + split * count + at, 0, WIDTH, true);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) sum[i] += part[i];
  }
  size_t row = at / width;
  *(Pack<bf16> *)(dqkv + (row + 1) * stride - width + (at - row * width)) = Pack<bf16>::of(sum);
}
