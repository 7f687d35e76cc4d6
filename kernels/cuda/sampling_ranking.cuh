// Filters of a row of scores of any size. Every filter keeps a front part of the ranking (greater score first, then lower id),
// described by the last token of that part: its score, found by radix or by bisection in eight parts over the bits of scores
// made to order like numbers, and its id among equal scores. As in kernels/c/sampling.c, top-p counts probability after top-k
// and min-p comes last. Each step reads the row again, so sampling.cu comes here for what it cannot decide otherwise.

#ifndef TINYLLAMA_SAMPLING_RANKING_CUH
#define TINYLLAMA_SAMPLING_RANKING_CUH

#include "device.cuh"

constexpr int THREADS = 1024;
constexpr int WARPS = THREADS / WARP;
constexpr int BINS = 256;
constexpr int BINS_A_LANE = BINS / WARP;
constexpr int PARTS = 8; // into which the range of the least kept score is cut at a time
constexpr unsigned NONE = 0xffffffffu;

// The last token of the ranking that is kept.
struct Cut {
  unsigned order, id;

  DEVICE bool keeps(unsigned other, unsigned other_id) const { return other > order || (other == order && other_id <= id); }
};

// Unsigned numbers that order like scores; both zeros are one.
DEVICE unsigned order_of(float score) {
  unsigned bits = bits_of(score + 0.0f);
  return bits ^ (bits >> 31 ? NONE : 0x80000000u);
}

DEVICE float score_from(unsigned order) { return float_of(order ^ (order >> 31 ? 0x80000000u : NONE)); }

// Scores as orders, and weights relative to the most likely token; both (V) in scratch memory.
struct Ranking {
  unsigned *orders;
  float *weights;
  unsigned v;
  float peak, temperature;

  DEVICE float weight_of(float score) const { return expf((score - peak) / temperature); }
};

DEVICE void clear(unsigned *counts) {
  __syncthreads();
  if (threadIdx.x < BINS) counts[threadIdx.x] = 0;
  __syncthreads();
}

// The bin, from the upper end, in which the running count reaches `wanted`; what of it is then still wanted replaces it.
DEVICE unsigned reaching_bin(const unsigned *counts, unsigned &wanted) {
  __shared__ unsigned reached[2];
  __syncthreads();
  if (threadIdx.x < WARP) {
    int lane = threadIdx.x, highest = BINS - 1 - lane * BINS_A_LANE;
    unsigned mine = 0;
    for (int i = 0; i < BINS_A_LANE; i++) mine += counts[highest - i];
    unsigned upto = mine;
    for (int distance = 1; distance < WARP; distance *= 2) {
      unsigned before = __shfl_up_sync(ALL_LANES, upto, distance);
      if (lane >= distance) upto += before;
    }
    if (upto >= wanted && upto - mine < wanted) {
      unsigned left = wanted - (upto - mine);
      int bin = highest;
      for (; counts[bin] < left; bin--) left -= counts[bin];
      reached[0] = bin;
      reached[1] = left;
    }
  }
  __syncthreads();
  wanted = reached[1];
  return reached[0];
}

// The order of number `wanted` of the ranking, byte by byte; `wanted` becomes its number among equals.
DEVICE unsigned nth_order(const Ranking &r, unsigned *counts, unsigned &wanted) {
  unsigned prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    clear(counts);
    for (unsigned id = threadIdx.x; id < r.v; id += THREADS) {
      unsigned order = r.orders[id];
      if (shift == 24 || order >> shift >> 8 == prefix) atomicAdd(&counts[(order >> shift) % BINS], 1u);
    }
    prefix = prefix << 8 | reaching_bin(counts, wanted);
  }
  return prefix;
}

// The id of number `wanted`, ascending, among those of one order.
DEVICE unsigned nth_equal(const Ranking &r, unsigned *counts, unsigned order, unsigned wanted) {
  unsigned prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (shift > 0 && (r.v - 1) >> shift == 0) continue;
    clear(counts);
    for (unsigned id = threadIdx.x; id < r.v; id += THREADS)
      if (r.orders[id] == order && (shift == 24 || id >> shift >> 8 == prefix)) atomicAdd(&counts[BINS - 1 - (id >> shift) % BINS], 1u);
    prefix = prefix << 8 | (BINS - 1 - reaching_bin(counts, wanted));
  }
  return prefix;
}

// masses[i] = what the tokens that `cut` keeps of at least the order low + i · step weigh together, for i > 0.
DEVICE void masses_from(float masses[PARTS], const Ranking &r, Cut cut, unsigned low, unsigned step) {
  __shared__ float of_warps[PARTS][WARPS];
  float mine[PARTS] = {0};
  for (unsigned id = threadIdx.x; id < r.v; id += THREADS) {
    unsigned order = r.orders[id];
    float weight = cut.keeps(order, id) ? r.weights[id] : 0;
#pragma unroll
    for (int i = 0; i < PARTS; i++)
      if (order >= low + i * step) mine[i] += weight;
  }
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < PARTS; i++) {
    float sum = warp_sum(mine[i]);
    if (lane == 0) of_warps[i][warp] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < PARTS; i++) masses[i] = warp_sum(lane < WARPS ? of_warps[i][lane] : 0);
}

// The smallest part of the ranking that weighs the share `share` of what `cut` keeps.
DEVICE Cut top_p(const Ranking &r, unsigned *counts, Cut cut, float share) {
  float masses[PARTS];
  unsigned low = cut.order, high = order_of(r.peak) + 1; // tokens from low on weigh enough, from high on too little
  masses_from(masses, r, cut, low, 0);
  float wanted = share * masses[0], mass_above = 0;
  while (high - low > 1) {
    unsigned step = max((high - low) / PARTS, 1u), from = low;
    masses_from(masses, r, cut, low, step);
#pragma unroll
    for (int i = 1; i < PARTS; i++) {
      unsigned middle = from + i * step;
      if (middle >= high) continue;
      if (masses[i] >= wanted) {
        low = middle;
      } else {
        high = middle;
        mass_above = masses[i];
      }
    }
  }
  float missing = ceilf((wanted - mass_above) / r.weight_of(score_from(low)));
  unsigned id = nth_equal(r, counts, low, (unsigned)fmaxf(1.0f, fminf(missing, (float)r.v)));
  return Cut{low, low == cut.order ? min(id, cut.id) : id};
}

// Leaves each kept token's weight in `weights` and 0 elsewhere.
DEVICE void weigh(const Ranking &r, unsigned *counts, int top_k, float share, float min_p) {
  for (unsigned id = threadIdx.x; id < r.v; id += THREADS) r.weights[id] = r.weight_of(score_from(r.orders[id]));
  Cut cut = {0, NONE};
  if (top_k > 0 && (unsigned)top_k < r.v) {
    unsigned wanted = top_k;
    cut.order = nth_order(r, counts, wanted);
    cut.id = nth_equal(r, counts, cut.order, wanted);
  }
  if (share < 1) cut = top_p(r, counts, cut, share);
  for (unsigned id = threadIdx.x; id < r.v; id += THREADS)
    if (r.weights[id] < min_p || !cut.keeps(r.orders[id], id)) r.weights[id] = 0;
  __syncthreads();
}

// Σ of the threads up to this one; `total` becomes that of all.
template <typename N>
DEVICE N running_sum(N value, N &total) {
  __shared__ N sums[WARPS];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  N upto = value;
  for (int distance = 1; distance < WARP; distance *= 2) {
    N before = __shfl_up_sync(ALL_LANES, upto, distance);
    if (lane >= distance) upto += before;
  }
  __syncthreads();
  if (lane == WARP - 1) sums[warp] = upto;
  __syncthreads();
  N before_warp = 0;
  total = 0;
  for (int i = 0; i < WARPS; i++) {
    if (i == warp) before_warp = total;
    total += sums[i];
  }
  return before_warp + upto;
}

// The token where the running sum of weights in ascending id passes the share `unit` of the whole. Each thread adds up a
// stretch of ids. Where rounding leaves the sum short: the last token of the stretch with a weight.
DEVICE void draw(const Ranking &r, float unit, unsigned *chosen) {
  unsigned stretch = (r.v + THREADS - 1) / THREADS;
  unsigned begin = min(threadIdx.x * stretch, r.v), end = min(begin + stretch, r.v);
  double sum = 0, total;
  for (unsigned id = begin; id < end; id++) sum += (double)r.weights[id];
  double upto = running_sum(sum, total), wanted = total * (double)unit;
  if (sum > 0 && upto > wanted) atomicMin(chosen, threadIdx.x);
  __syncthreads();
  unsigned winner = *chosen;
  __syncthreads();
  if (threadIdx.x != winner) return;
  double running = upto - sum;
  for (unsigned id = begin; id < end; id++) {
    if (!(r.weights[id] > 0)) continue;
    *chosen = id;
    running += (double)r.weights[id];
    if (running > wanted) break;
  }
}

#endif
