// Attention forward within sequences for compute capability 9.0a (after FlashAttention-3, Shah et al. 2024). A block of two
// warpgroups takes 128 queries of one head, a warpgroup 64 of them. While a warpgroup's tensor cores multiply weights with
// values, its threads already make the weights of the next tile. Tiles of keys and values arrive one turn ahead of their use,
// by asynchronous copies of all threads. Widths 64 and 128 in bf16; layouts and results are those of attention.cu.

#include "panels_hopper.cuh"

// One head of one sequence.
struct Head {
  bf16 *out;  // (T, D) with out_stride
  float *lse; // (T) or null
  const bf16 *queries, *keys, *values;
  int out_stride, stride, t;
};

// What a warpgroup has of its 64 queries: sums of weighted values, weights of the newest tile, the running softmax of a
// lane's rows. Weights are 2^(scaled score - most).
template <int D, int KEYS>
struct Stripe {
  float acc[D / 8][4], scores[KEYS / 8][4];
  uint32_t weights[KEYS / 16][4];
  float most[2], sum[2];

  DEVICE Stripe() {
#pragma unroll
    for (int n = 0; n < D / 8; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;
    most[0] = most[1] = MINUS_INFINITY;
    sum[0] = sum[1] = 0;
  }

  // Begins scores = queries · keysᵀ.
  DEVICE void score(const Panels<D, ROWS> &queries, int row, const Panels<D, KEYS> &keys) {
#pragma unroll
    for (int step = 0; step < D / 16; step++) wgmma<KEYS>(scores, queries.columns(row, step), keys.columns(0, step), step > 0);
    wgmma_commit();
  }

  // Begins acc += weights · values.
  DEVICE void add(const Panels<D, KEYS> &values) {
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) wgmma<D>(acc, weights[step], values.rows(step));
    wgmma_commit();
  }

  // Scores of keys after a row's own become minus infinity; `ahead` is how far the first key comes after the first row.
  DEVICE void mask(int ahead) {
    int last_seen[1][2];
#pragma unroll
    for (int half = 0; half < 2; half++) last_seen[0][half] = threadIdx.x % WARPGROUP / WARP * STRIPE + stripe_row(0, half);
    mask_keys<1, KEYS>(&scores, ahead, last_seen);
  }

  // Scores become weights, `scale` times log2 e included; factors are what earlier sums are then to be multiplied with. ptxas
  // moves a wait up to the last branch: this stands in branches, so that products go on beside it.
  DEVICE void weigh(float factors[2], float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float greatest = MINUS_INFINITY;
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) greatest = fmaxf(greatest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      greatest = fmaxf(most[half], quad_max(greatest) * scale);
      factors[half] = exp2_fast(most[half] - greatest);
      most[half] = greatest;
      sum[half] *= factors[half];
    }
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        scores[n][i] = exp2_fast(scores[n][i] * scale - most[i / 2]);
        sum[i / 2] += scores[n][i];
      }
    }
    made_here<KEYS>(scores);
  }

  // Where a row of the warp has a greater score than before.
  DEVICE void multiply(const float factors[2]) {
    if (!__any_sync(ALL_LANES, factors[0] < 1 || factors[1] < 1)) return;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) acc[n][i] *= factors[i / 2];
    }
  }

  // Weights as fragments.
  DEVICE void round() { to_fragments<1, KEYS>(&weights, &scores); }
};

// Tiles of keys and values, two places each, in shared memory behind the queries. Turn j needs keys j and values j - 1.
template <int D, int KEYS>
struct Turns {
  typedef Panels<D, KEYS> Tile;
  const Head &head;
  unsigned char *places;
  int end;

  DEVICE Tile keys(int tile) const { return {places + tile % 2 * Tile::BYTES}; }
  DEVICE Tile values(int tile) const { return {places + (2 + tile % 2) * Tile::BYTES}; }
  DEVICE int count() const { return (end + KEYS - 1) / KEYS; }

  DEVICE void copy_keys(int tile) const {
    if (tile < count()) keys(tile).copy(head.keys, head.stride, tile * KEYS, end);
  }
  // What turn j needs is there, and what the next one needs on its way, in places that nobody reads any more.
  DEVICE void begin(int turn) const {
    copy_async_wait();
    fence_shared_async();
    __syncthreads();
    copy_keys(turn + 1);
    if (turn < count()) values(turn).copy(head.values, head.stride, turn * KEYS, end);
  }
};

template <int D, int KEYS>
DEVICE void attention_forward(const Head &head, int first) {
  Panels<D, ROWS> queries = {aligned_shared()};
  Turns<D, KEYS> turns = {head, queries.place + Panels<D, ROWS>::BYTES, min(first + ROWS, head.t)};
  // The same for all lanes, which the compiler is told in this way.
  int warpgroup = __shfl_sync(ALL_LANES, threadIdx.x / WARPGROUP, 0), group_row = warpgroup * WARPGROUP_ROWS, row = first + group_row;
  int own = (row + WARPGROUP_ROWS + KEYS - 1) / KEYS, count = turns.count();
  if (own > count) own = count;
  queries.copy(head.queries, head.stride, first, head.t);
  turns.copy_keys(0);
  turns.begin(0);
  Stripe<D, KEYS> stripe;
  float scale = LOG2_E / sqrtf((float)D), factors[2];
  wgmma_fence();
  stripe.score(queries, group_row, turns.keys(0));
  wgmma_wait<0, KEYS>(stripe.scores);
  if (own == 1) stripe.mask(-row);
  stripe.weigh(factors, scale);
  stripe.round();
#pragma unroll 1
  for (int turn = 1; turn < own; turn++) {
    turns.begin(turn);
    wgmma_fence();
    stripe.score(queries, group_row, turns.keys(turn));
    stripe.add(turns.values(turn - 1));
    wgmma_wait<1, KEYS>(stripe.scores);
    if (turn == own - 1) {
      stripe.mask(turn * KEYS - row);
      stripe.weigh(factors, scale);
    } else {
      stripe.weigh(factors, scale);
    }
    wgmma_wait<0, D>(stripe.acc);
    stripe.multiply(factors);
    stripe.round();
  }
  turns.begin(own);
  wgmma_fence();
  stripe.add(turns.values(own - 1));
  wgmma_wait<0, D>(stripe.acc);
  for (int turn = own + 1; turn <= count; turn++) turns.begin(turn);
  int warp_row = threadIdx.x / WARP * STRIPE;
  float shares[1][2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = quad_sum(stripe.sum[half]);
    int at = first + warp_row + stripe_row(0, half);
    shares[0][half] = __fdividef(1, sum);
    if (head.lse && threadIdx.x % 4 == 0 && at < head.t) head.lse[at] = stripe.most[half] * LN_2 + logf(sum);
  }
  store_sums<D, 1>(head.out, head.out_stride, first + warp_row, head.t, Tile<D>{(bf16 *)queries.place}, warp_row, &stripe.acc, shares);
}

// Grid (H, B, tiles of queries): heads that share keys run together, and blocks with the most keys come first.
template <int D, int KEYS>
DEVICE void attention_hopper(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  int head = blockIdx.x, kv = head * k / h, stride = (h + 2 * k) * D;
  size_t sequence = blockIdx.y;
  const bf16 *rows = qkv + sequence * t * stride;
  Head one = {out + (sequence * t * h + head) * D, lse ? lse + (sequence * h + head) * t : nullptr, rows + head * D,
              rows + (h + kv) * D, rows + (h + k + kv) * D, h * D, stride, t};
  attention_forward<D, KEYS>(one, (gridDim.z - 1 - blockIdx.z) * ROWS);
}

// Two blocks of the narrow width on a multiprocessor, one of the wide one.
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_hopper_64(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  attention_hopper<64, 64>(out, lse, qkv, t, h, k);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_hopper_128(bf16 *out, float *lse, const bf16 *qkv, int t, int h, int k) {
  attention_hopper<128, 128>(out, lse, qkv, t, h, k);
}
