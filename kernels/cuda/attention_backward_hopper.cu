// Attention backward for compute capability 9.0a: the two kernels of attention_backward.cu, in its notation and with its
// cuts, grids and parts, on products of warpgroups. While the tensor cores add to gradients what a turn gave, the threads
// make the weights of the next one. Width 64 in bf16.

#include "attention_backward.cuh"
#include "panels_hopper.cuh"

constexpr int D = 64;
constexpr int TURN = 64; // rows of the operand that comes in turns
constexpr int PLACES = 3;
typedef Panels<D, TURN> TurnPanels;
typedef Panels<D, ROWS> BlockPanels;

// What a warpgroup makes at a turn of its 64 rows by the turn's 64: scores that become weights, dP that becomes dS.
struct Products {
  float weights[TURN / 8][4], dscores[TURN / 8][4];

  // Begins weights = rows · turnᵀ and dscores = more rows · another turnᵀ.
  DEVICE void score(const BlockPanels &rows, const TurnPanels &turn, const BlockPanels &more_rows, const TurnPanels &other, int row) {
#pragma unroll
    for (int step = 0; step < D / 16; step++) wgmma<TURN>(weights, rows.columns(row, step), turn.columns(0, step), step > 0);
#pragma unroll
    for (int step = 0; step < D / 16; step++) wgmma<TURN>(dscores, more_rows.columns(row, step), other.columns(0, step), step > 0);
    wgmma_commit();
  }

  // These numbers are made in the branch that this stands in. ptxas moves a wait up to the last branch: work that is to go
  // on beside products has to be within branches, each of which ends in this.
  DEVICE void end_branch() {
    made_here<TURN>(weights);
    made_here<TURN>(dscores);
  }
  template <int PENDING>
  DEVICE void wait() {
    wgmma_wait<PENDING, TURN>(weights);
    made_here<TURN>(dscores);
  }
};

// Begins sums += fragments · a turn's rows.
DEVICE void add_rows(float sums[D / 8][4], const uint32_t fragments[TURN / 16][4], const TurnPanels &turn) {
#pragma unroll
  for (int step = 0; step < TURN / 16; step++) wgmma<D>(sums, fragments[step], turn.rows(step));
}

DEVICE void clear(float sums[D / 8][4]) {
#pragma unroll
  for (int n = 0; n < D / 8; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
}

// What all threads have copied is there for products, and only the newest two turns are still read.
DEVICE void meet() {
  copy_async_wait();
  fence_shared_async();
  __syncthreads();
}

DEVICE int warpgroup_of_block() { return __shfl_sync(ALL_LANES, threadIdx.x / WARPGROUP, 0); }

// Tiles of queries and their gradients that backward_keys takes, the last queries first: turns are numbered as there.
struct QueryTurns {
  const Backward &p;
  unsigned char *places;
  float *statistics; // (PLACES, TURN, 2)
  int most, count;

  DEVICE TurnPanels queries(int turn) const { return {places + turn % PLACES * 2 * TurnPanels::BYTES}; }
  DEVICE TurnPanels douts(int turn) const { return {places + (turn % PLACES * 2 + 1) * TurnPanels::BYTES}; }
  DEVICE float *statistics_of(int turn) const { return statistics + turn % PLACES * 2 * TURN; }
  DEVICE int first(int turn) const { return (most - turn) / p.heads * TURN; }

  DEVICE void copy(int turn) const {
    if (turn >= count) return;
    int head = blockIdx.x * p.heads + (most - turn) % p.heads, first_query = first(turn), stride = (p.h + 2 * p.k) * D;
    size_t sequence = blockIdx.y, line = (sequence * p.h + head) * p.t + first_query;
    queries(turn).copy(p.qkv + sequence * p.t * stride + head * D, stride, first_query, p.t);
    douts(turn).copy(p.dout + sequence * p.t * p.h * D + head * D, p.h * D, first_query, p.t);
    int row = threadIdx.x / 2;
    const float *from = (threadIdx.x % 2 ? p.delta : p.lse) + line + row;
    if (row < TURN) copy_async<4>(statistics_of(turn) + threadIdx.x, from, first_query + row < p.t);
  }
  DEVICE void begin(int turn) const {
    meet();
    copy(turn + 1);
  }
};

// Weights and dS of a turn; keys down, queries across.
DEVICE void derive_keys(Products &made, const QueryTurns &turns, int turn, int warp_key, float scale) {
  if (turns.first(turn) < warp_key + STRIPE - 1) {
    mask_queries<1, TURN>(&made.weights, turns.first(turn), warp_key);
    weigh_keys<1, TURN>(&made.weights, &made.dscores, turns.statistics_of(turn), scale);
    made.end_branch();
  } else {
    weigh_keys<1, TURN>(&made.weights, &made.dscores, turns.statistics_of(turn), scale);
    made.end_branch();
  }
}

// Grid (K · splits, B, tiles of keys), as in attention_backward.cu. Dynamic shared memory: keys, values, three places of
// queries and their gradients, statistics of these.
DEVICE void backward_keys(const Backward &p) {
  BlockPanels keys = {aligned_shared()}, values = {keys.place + BlockPanels::BYTES};
  unsigned char *places = values.place + BlockPanels::BYTES;
  int stride = (p.h + 2 * p.k) * D, kv = blockIdx.x / p.splits, first_key = blockIdx.z * ROWS;
  int group_row = warpgroup_of_block() * WARPGROUP_ROWS, warp_row = threadIdx.x / WARP * STRIPE, warp_key = first_key + warp_row;
  int most = ((p.t - 1) / TURN + 1) * p.heads - 1, count = most + 1 - first_key / TURN * p.heads;
  int own = most + 1 - (first_key + group_row) / TURN * p.heads; // turns of which the warpgroup's keys see anything
  size_t sequence = blockIdx.y, at = sequence * p.t * stride + (p.h + kv) * D;
  QueryTurns turns = {p, places, (float *)(places + PLACES * 2 * TurnPanels::BYTES), most, count};
  float root = 1 / sqrtf((float)D), dkeys[D / 8][4], dvalues[D / 8][4];
  uint32_t weights[TURN / 16][4], dscores[TURN / 16][4];
  Products made;
  keys.copy(p.qkv + at, stride, first_key, p.t);
  values.copy(p.qkv + at + p.k * D, stride, first_key, p.t);
  turns.copy(0);
  turns.begin(0);
  clear(dkeys);
  clear(dvalues);
  if (own > 0) {
    wgmma_fence();
    made.score(keys, turns.queries(0), values, turns.douts(0), group_row);
    made.wait<0>();
    derive_keys(made, turns, 0, warp_key, root * LOG2_E);
    to_fragments<1, TURN>(&weights, &made.weights);
    to_fragments<1, TURN>(&dscores, &made.dscores);
#pragma unroll 1
    for (int turn = 1; turn < own; turn++) {
      turns.begin(turn);
      wgmma_fence();
      made.score(keys, turns.queries(turn), values, turns.douts(turn), group_row);
      add_rows(dvalues, weights, turns.douts(turn - 1));
      add_rows(dkeys, dscores, turns.queries(turn - 1));
      wgmma_commit();
      made.wait<1>();
      derive_keys(made, turns, turn, warp_key, root * LOG2_E);
      wgmma_wait<0, D>(dvalues);
      made_here<D>(dkeys);
      to_fragments<1, TURN>(&weights, &made.weights);
      to_fragments<1, TURN>(&dscores, &made.dscores);
    }
    wgmma_fence();
    add_rows(dvalues, weights, turns.douts(own - 1));
    add_rows(dkeys, dscores, turns.queries(own - 1));
    wgmma_commit();
    wgmma_wait<0, D>(dvalues);
    made_here<D>(dkeys);
  }
  for (int turn = max(own, 1); turn < count; turn++) turns.begin(turn);
  if (p.splits > 1) {
    int width = 2 * p.k * D;
    float *part = p.parts + ((blockIdx.x % p.splits * gridDim.y + sequence) * p.t) * width + kv * D;
    store_part<D, 1>(part, width, warp_key, p.t, &dkeys, root);
    store_part<D, 1>(part + p.k * D, width, warp_key, p.t, &dvalues, 1);
    return;
  }
  __syncthreads();
  float roots[1][2] = {{root, root}}, ones[1][2] = {{1, 1}};
  store_sums<D, 1>(p.dqkv + at, stride, warp_key, p.t, Tile<D>{(bf16 *)keys.place}, warp_row, &dkeys, roots);
  store_sums<D, 1>(p.dqkv + at + p.k * D, stride, warp_key, p.t, Tile<D>{(bf16 *)values.place}, warp_row, &dvalues, ones);
}

// Tiles of keys and values that backward_queries takes.
struct KeyTurns {
  const bf16 *key_rows, *value_rows;
  unsigned char *places;
  int stride, end;

  DEVICE TurnPanels keys(int turn) const { return {places + turn % PLACES * 2 * TurnPanels::BYTES}; }
  DEVICE TurnPanels values(int turn) const { return {places + (turn % PLACES * 2 + 1) * TurnPanels::BYTES}; }
  DEVICE int count() const { return (end + TURN - 1) / TURN; }
  DEVICE void copy(int turn) const {
    if (turn >= count()) return;
    keys(turn).copy(key_rows, stride, turn * TURN, end);
    values(turn).copy(value_rows, stride, turn * TURN, end);
  }
  DEVICE void begin(int turn) const {
    meet();
    copy(turn + 1);
  }
};

// Of a lane's two queries.
struct Statistics {
  float lse[2], delta[2];

  DEVICE Statistics(const Backward &p, size_t line, int first_row) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = first_row + stripe_row(0, half);
      lse[half] = row < p.t ? p.lse[line + row] * LOG2_E : 0;
      delta[half] = row < p.t ? p.delta[line + row] : 0;
    }
  }
  DEVICE void weigh(Products &made, float scale) const {
#pragma unroll
    for (int n = 0; n < TURN / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        made.dscores[n][i] = exp2_fast(made.weights[n][i] * scale - lse[i / 2]) * (made.dscores[n][i] - delta[i / 2]);
    }
    made.end_branch();
  }
};

// dS of a turn whose first key comes `ahead` of the warp's first query; queries down, keys across.
DEVICE void derive_queries(Products &made, const Statistics &of, int ahead, float scale) {
  int last_seen[1][2] = {{stripe_row(0, 0), stripe_row(0, 1)}};
  if (ahead + TURN - 1 > 0) {
    mask_keys<1, TURN>(&made.weights, ahead, last_seen);
    of.weigh(made, scale);
  } else {
    of.weigh(made, scale);
  }
}

// Grid (H, B, tiles of queries), as in attention_backward.cu. Dynamic shared memory: queries, their gradients, three places
// of keys and values.
DEVICE void backward_queries(const Backward &p) {
  BlockPanels queries = {aligned_shared()}, douts = {queries.place + BlockPanels::BYTES};
  int head = blockIdx.x, kv = head * p.k / p.h, stride = (p.h + 2 * p.k) * D, first = (gridDim.z - 1 - blockIdx.z) * ROWS;
  int group_row = warpgroup_of_block() * WARPGROUP_ROWS, warp_row = threadIdx.x / WARP * STRIPE, warp_query = first + warp_row;
  size_t sequence = blockIdx.y;
  const bf16 *rows = p.qkv + sequence * p.t * stride, *key_rows = rows + (p.h + kv) * D;
  KeyTurns turns = {key_rows, key_rows + p.k * D, douts.place + BlockPanels::BYTES, stride, min(first + ROWS, p.t)};
  int count = turns.count(), own = min((first + group_row) / TURN + 1, count);
  float root = 1 / sqrtf((float)D), scale = root * LOG2_E, dqueries[D / 8][4];
  uint32_t dscores[TURN / 16][4];
  Products made;
  Statistics statistics(p, (sequence * p.h + head) * p.t, warp_query);
  queries.copy(rows + head * D, stride, first, p.t);
  douts.copy(p.dout + sequence * p.t * p.h * D + head * D, p.h * D, first, p.t);
  turns.copy(0);
  turns.begin(0);
  clear(dqueries);
  wgmma_fence();
  made.score(queries, turns.keys(0), douts, turns.values(0), group_row);
  made.wait<0>();
  derive_queries(made, statistics, -warp_query, scale);
  to_fragments<1, TURN>(&dscores, &made.dscores);
#pragma unroll 1
  for (int turn = 1; turn < own; turn++) {
    turns.begin(turn);
    wgmma_fence();
    made.score(queries, turns.keys(turn), douts, turns.values(turn), group_row);
    add_rows(dqueries, dscores, turns.keys(turn - 1));
    wgmma_commit();
    made.wait<1>();
    derive_queries(made, statistics, turn * TURN - warp_query, scale);
    wgmma_wait<0, D>(dqueries);
    to_fragments<1, TURN>(&dscores, &made.dscores);
  }
  wgmma_fence();
  add_rows(dqueries, dscores, turns.keys(own - 1));
  wgmma_commit();
  wgmma_wait<0, D>(dqueries);
  for (int turn = own; turn < count; turn++) turns.begin(turn);
  __syncthreads();
  float roots[1][2] = {{root, root}};
  bf16 *to = p.dqkv + sequence * p.t * stride + head * D;
  store_sums<D, 1>(to, stride, warp_query, p.t, Tile<D>{(bf16 *)queries.place}, warp_row, &dqueries, roots);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_backward_keys_hopper_64(bf16 *dqkv, float *parts, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int t, int h, int k, int splits, int heads) {
  backward_keys({dqkv, dout, qkv, lse, delta, t, h, k, parts, splits, heads});
}
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_backward_queries_hopper_64(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int t, int h, int k) {
  backward_queries({dqkv, dout, qkv, lse, delta, t, h, k});
}
