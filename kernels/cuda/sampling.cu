// Drawing the next tokens, a block a sequence. One reading of the row gives the statistics of its logits and the likeliest
// token; a second one finds the tokens that top-k and top-p keep, which are sorted in shared memory, or draws from all. What
// those do not decide goes through sampling_ranking.cuh: a top-k of more than 384, top-p where the likeliest 256 are not
// enough, and drawing from more than 131,072 tokens.

#include "philox.cuh"
#include "sampling_candidates.cuh"

// scratch: (B, 2, V) words.
extern "C" __global__ void __launch_bounds__(THREADS) sample_token(int *tokens, int *positions, float *log_probs, const float *logits, int *seen, const unsigned *rng, unsigned *scratch, int v, float temperature, int top_k, float share, float min_p, float penalty) {
  __shared__ unsigned counts[BINS], chosen;
  __shared__ Candidates candidates;
  begin_dependent();
  unsigned b = blockIdx.x;
  int *seen_row = seen ? seen + (size_t)b * v : nullptr;
  ScoreRow row(logits + (size_t)b * v, seen_row, v, penalty);
  RowStatistics of_thread;
  row.each_pack([&](unsigned first, const float *numbers, const float *scores, int count) { of_thread.add(first, numbers, scores, count); });
  float best_logit = row_max(of_thread.greatest), best_score = row_max(of_thread.best);
  float log_sum = logf(row_sum(of_thread.sum * expf(of_thread.greatest - best_logit)));
  if (threadIdx.x == 0) chosen = NONE;
  __syncthreads();
  if (temperature > 0) {
    row.peak = best_score;
    row.inverse_temperature = fminf(1 / temperature, -LOWEST); // infinity times 0 would be no weight
    uint32_t words[4] = {(uint32_t)positions[b], rng[3 * b + 2], 0, 0};
    philox(words, rng[3 * b], rng[3 * b + 1]);
    float unit = unit_float(words[0]);
    bool is_whole = (top_k == 0 || top_k >= v) && share >= 1, is_drawn = is_whole && (unsigned)v <= MOST_DRAWN;
    if (is_drawn) draw_from_row(row, min_p, unit, &chosen);
    else if (!is_whole && top_k <= MOST_WANTED) is_drawn = draw_candidate(candidates, row, counts, of_thread.best, top_k, share, min_p, unit, &chosen);
    if (!is_drawn) {
      unsigned *orders = scratch + (size_t)b * 2 * v;
      row.each([&](unsigned id, float score) { orders[id] = order_of(score); });
      __syncthreads();
      Ranking ranking = {orders, (float *)(orders + v), (unsigned)v, best_score, temperature};
      weigh(ranking, counts, top_k, share, min_p);
      draw(ranking, unit, &chosen);
    }
  } else if (of_thread.best == best_score) {
    atomicMin(&chosen, of_thread.id);
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  unsigned id = chosen == NONE ? 0 : chosen; // of logits that are no numbers
  tokens[b] = (int)id;
  positions[b]++;
  log_probs[b] = row.logits[id] - best_logit - log_sum;
  if (seen_row) seen_row[id]++;
}
