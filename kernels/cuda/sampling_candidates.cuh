// The likeliest tokens of a row, sorted: what top-k keeps, and nearly always all that top-p does. Weights are whole numbers
// here, so that no sum depends on its order.

#ifndef TINYLLAMA_SAMPLING_CANDIDATES_CUH
#define TINYLLAMA_SAMPLING_CANDIDATES_CUH

#include "sampling_row.cuh"

constexpr int MOST_CANDIDATES = 512;
constexpr int MOST_WANTED = 384;    // there are more of at least the order that least_order finds
constexpr int NUCLEUS_WANTED = 256; // among which top-p alone looks first

struct Candidates {
  uint64_t keys[MOST_CANDIDATES]; // score and id, greater for what ranks higher
  uint64_t weights[MOST_CANDIDATES];
  unsigned ids[MOST_CANDIDATES]; // by rank, as the weights are
  unsigned count;
};

DEVICE uint64_t key_of(unsigned order, unsigned id) { return (uint64_t)order << 32 | (NONE - id); }

// A lower bound for the order of number `wanted` of the ranking, from the greatest order of each thread.
DEVICE unsigned least_order(unsigned mine, unsigned *counts, unsigned wanted) {
  unsigned prefix = 0;
  for (int shift = 24; shift >= 8; shift -= 8) {
    clear(counts);
    if (shift == 24 || mine >> shift >> 8 == prefix) atomicAdd(&counts[(mine >> shift) % BINS], 1u);
    prefix = prefix << 8 | reaching_bin(counts, wanted);
  }
  return prefix << 8;
}

// Sorts the tokens of at least the order `least`; false where there are too many. `total` becomes the weight of the whole row
// where it IS_WANTED.
DEVICE bool gather(Candidates &all, const ScoreRow &row, unsigned least, bool is_wanted, uint64_t &total) {
  if (threadIdx.x == 0) all.count = 0;
  __syncthreads();
  uint64_t sum = 0;
  row.each([&](unsigned id, float score) {
    unsigned order = order_of(score);
    if (is_wanted) sum += row.whole_weight(score);
    if (order < least) return;
    unsigned place = atomicAdd(&all.count, 1u);
    if (place < MOST_CANDIDATES) all.keys[place] = key_of(order, id);
  });
  if (is_wanted) total = row_sum(sum);
  __syncthreads();
  unsigned count = all.count;
  if (count > MOST_CANDIDATES) return false;
  if (threadIdx.x < count) {
    uint64_t key = all.keys[threadIdx.x];
    unsigned rank = 0;
#pragma unroll 8
    for (unsigned i = 0; i < count; i++) rank += all.keys[i] > key;
    all.ids[rank] = NONE - (unsigned)key;
    all.weights[rank] = row.whole_weight(score_from((unsigned)(key >> 32)));
  }
  __syncthreads();
  return true;
}

// Draws by way of `chosen`, where the candidates decide it. `best` is the greatest score among the thread's.
DEVICE bool draw_candidate(Candidates &all, const ScoreRow &row, unsigned *counts, float best, int top_k, float share, float min_p, float unit, unsigned *chosen) {
  unsigned rank = threadIdx.x, least = least_order(order_of(best), counts, (unsigned)(top_k > 0 ? top_k : NUCLEUS_WANTED));
  uint64_t of_row = 0, total;
  if (!gather(all, row, least, top_k == 0, of_row)) return false;
  unsigned size = top_k > 0 ? min((unsigned)top_k, all.count) : all.count;
  uint64_t weight = rank < size ? all.weights[rank] : 0, upto = running_sum(weight, total);
  if (top_k == 0) {
    if ((double)total < (double)share * (double)of_row) return false;
    total = of_row;
  }
  if (share < 1 && rank > 0 && (double)(upto - weight) >= (double)share * (double)total) weight = 0;
  if (weight < row.whole(min_p)) weight = 0;
  if (rank < size) all.weights[rank] = weight;
  running_sum(weight, total); // its barriers stand between writing and reading weights
  if (weight > 0) {
    unsigned id = all.ids[rank];
    uint64_t before = 0; // of the kept tokens of lower ids
    for (unsigned i = 0; i < size && all.weights[i] > 0; i++)
      if (all.ids[i] < id) before += all.weights[i];
    uint64_t wanted = (uint64_t)((double)total * (double)unit);
    if (before <= wanted && wanted < before + weight) *chosen = id;
  }
  return true;
}

#endif
