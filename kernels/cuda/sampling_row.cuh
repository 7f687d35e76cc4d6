// A row of scores, read several packs at a time: the second reading finds it in the multiprocessor's cache.

#ifndef TINYLLAMA_SAMPLING_ROW_CUH
#define TINYLLAMA_SAMPLING_ROW_CUH

#include "sampling_ranking.cuh"

constexpr int PACK = Pack<float>::WIDTH;
constexpr int BATCH = 2;                      // packs of a thread, on their way at once
constexpr unsigned ROUND = THREADS * PACK;    // ids of a pack of every thread
constexpr unsigned STRETCHES = THREADS;       // of the ids of a row, one a warp and round
constexpr unsigned MOST_DRAWN = STRETCHES / WARPS * ROUND; // ids of a row that so many stretches cover

struct ScoreRow {
  const float *logits;
  const int *seen; // or null
  unsigned v;
  float penalty;
  bool packed;
  float peak, inverse_temperature; // of weights

  DEVICE ScoreRow(const float *logits, const int *seen, unsigned v, float penalty)
      : logits(logits), seen(seen), v(v), penalty(penalty), packed(is_packed(logits, (int)v) && (!seen || (uintptr_t)seen % 16 == 0)), peak(0), inverse_temperature(0) {}

  DEVICE float score_of(float logit, int count) const { return count == 0 ? logit : logit > 0 ? logit / penalty : logit * penalty; }

  // visit(first, logits, scores, count) for the thread's packs: `count` of their ids are there.
  template <typename Visit>
  DEVICE void each_pack(Visit visit) const {
#pragma unroll 1
    for (unsigned first = threadIdx.x * PACK; first < v; first += BATCH * ROUND) {
      float numbers[BATCH][PACK], counts[BATCH][PACK] = {{0}};
#pragma unroll
      for (int k = 0; k < BATCH; k++) {
        int at = (int)(first + k * ROUND);
        if (at >= (int)v) continue;
        load_floats(numbers[k], logits, at, (int)v, packed);
        if (seen) load_floats(counts[k], (const float *)seen, at, (int)v, packed);
      }
#pragma unroll
      for (int k = 0; k < BATCH; k++) {
        unsigned at = first + k * ROUND;
        if (at >= v) continue;
        float scores[PACK];
#pragma unroll
        for (int i = 0; i < PACK; i++) scores[i] = score_of(numbers[k][i], (int)bits_of(counts[k][i]));
        visit(at, numbers[k], scores, (int)min(v - at, (unsigned)PACK));
      }
    }
  }

  // visit(id, score) for the thread's ids.
  template <typename Visit>
  DEVICE void each(Visit visit) const {
    each_pack([&](unsigned first, const float *, const float *scores, int count) {
#pragma unroll
      for (int i = 0; i < PACK; i++)
        if (i < count) visit(first + i, scores[i]);
    });
  }

  // The same for the pack from `first` on.
  template <typename Visit>
  DEVICE void each_of(unsigned first, Visit visit) const {
    if (first >= v) return;
    float numbers[PACK];
    load_floats(numbers, logits, (int)first, (int)v, packed);
#pragma unroll
    for (int i = 0; i < PACK; i++)
      if (first + i < v) visit(first + i, score_of(numbers[i], seen ? seen[first + i] : 0));
  }

  // A weight relative to the most likely token's as a whole number, so that sums do not depend on their order: 2^40 stands
  // for 1.
  DEVICE static uint64_t whole(float weight) { return weight > 0 ? (uint64_t)(weight * 0x1p40f) : 0; }
  DEVICE uint64_t whole_weight(float score) const { return whole(expf((score - peak) * inverse_temperature)); }
};

// What one reading of a row tells: of logits the greatest and the sum of e^(logit - greatest), of scores the greatest, and
// the lowest id that has it.
struct RowStatistics {
  float greatest = LOWEST, sum = 0, best = LOWEST;
  unsigned id = NONE;

  DEVICE void add(unsigned first, const float *logits, const float *scores, int count) {
    float most = greatest;
#pragma unroll
    for (int i = 0; i < PACK; i++)
      if (i < count) most = fmaxf(most, logits[i]);
    if (most > greatest) sum *= expf(greatest - most);
    greatest = most;
#pragma unroll
    for (int i = 0; i < PACK; i++) {
      if (i >= count) continue;
      sum += expf(logits[i] - most);
      if (scores[i] > best || (id == NONE && scores[i] == best)) {
        best = scores[i];
        id = first + i;
      }
    }
  }
};

// The token where the running sum of weights of at least `min_p` in ascending id passes the share `unit` of the whole, of up
// to MOST_DRAWN tokens.
DEVICE void draw_from_row(const ScoreRow &row, float min_p, float unit, unsigned *chosen) {
  __shared__ uint64_t of_stretches[STRETCHES], before_found;
  __shared__ unsigned found;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  uint64_t least = ScoreRow::whole(min_p), total;
  auto kept_weight = [&](float score) -> uint64_t {
    uint64_t weight = row.whole_weight(score);
    return weight < least ? 0 : weight;
  };
  of_stretches[threadIdx.x] = 0;
  if (threadIdx.x == 0) found = NONE;
  __syncthreads();
#pragma unroll 1
  for (unsigned first = warp * WARP * PACK; first < row.v; first += ROUND) {
    uint64_t sum = 0;
    row.each_of(first + lane * PACK, [&](unsigned, float score) { sum += kept_weight(score); });
    sum = warp_sum(sum);
    if (lane == 0) of_stretches[first / ROUND * WARPS + warp] = sum;
  }
  __syncthreads();
  uint64_t mine = of_stretches[threadIdx.x], upto = running_sum(mine, total);
  uint64_t wanted = (uint64_t)((double)total * (double)unit);
  if (upto - mine <= wanted && wanted < upto) {
    found = threadIdx.x;
    before_found = upto - mine;
  }
  __syncthreads();
  if (found == NONE || found % WARPS != warp) return;
  unsigned first = found / WARPS * ROUND + threadIdx.x * PACK;
  uint64_t of_pack = 0;
  row.each_of(first, [&](unsigned, float score) { of_pack += kept_weight(score); });
  uint64_t running = of_pack;
  for (int distance = 1; distance < WARP; distance *= 2) {
    uint64_t before = __shfl_up_sync(ALL_LANES, running, distance);
    if (lane >= distance) running += before;
  }
  running += before_found - of_pack;
  row.each_of(first, [&](unsigned id, float score) {
    uint64_t weight = kept_weight(score);
    if (running <= wanted && wanted < running + weight) *chosen = id;
    running += weight;
  });
}

#endif
