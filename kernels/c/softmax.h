// The two sums softmax needs of a row of logits, in a fixed order.

#ifndef TINYLLAMA_SOFTMAX_H
#define TINYLLAMA_SOFTMAX_H

#include "vector_math.h"

enum { SOFTMAX_BLOCK = 4096, SOFTMAX_LANES = 4 * VL };

// The greatest of `count` > 0 numbers. NaNs are passed over.
static inline float row_max(const float *x, ptrdiff_t count) {
  vf best[4];
  for (int i = 0; i < 4; i++) best[i] = vf_set(-__builtin_inff());
  ptrdiff_t j = 0;
  for (; j + SOFTMAX_LANES <= count; j += SOFTMAX_LANES)
    for (int i = 0; i < 4; i++) best[i] = vf_max(best[i], vf_load(x + j + i * VL));
  float greatest = vf_max_lane(vf_max(vf_max(best[0], best[1]), vf_max(best[2], best[3])));
  for (; j < count; j++) greatest = x[j] > greatest ? x[j] : greatest;
  return greatest;
}

// Σ e^((x - shift) / temperature), each term also stored in `out` unless that is null; out may be x. What follows x in
// memory, where more rows are next, is fetched meanwhile: this is bound by arithmetic, the search for a maximum by memory.
static inline __attribute__((always_inline)) double row_exp_sum(float *out, const float *x, ptrdiff_t count, float shift, float temperature) {
  double total = 0;
  for (ptrdiff_t block = 0; block < count; block += SOFTMAX_BLOCK) {
    ptrdiff_t j = block, end = count - block < SOFTMAX_BLOCK ? count : block + SOFTMAX_BLOCK;
    vf sum[4] = {0};
    for (; j + SOFTMAX_LANES <= end; j += SOFTMAX_LANES) {
      for (int i = 0; i < 4; i++) {
        if (i % (64 / VECTOR_BYTES) == 0) __builtin_prefetch(x + count + j + i * VL);
        vf term = vf_exp((vf_load(x + j + i * VL) - shift) / temperature);
        if (out) vf_store(out + j + i * VL, term);
        sum[i] += term;
      }
    }
    float rest = vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; j < end; j += VL) {
      ptrdiff_t lanes = end - j < VL ? end - j : VL;
      vf term = vf_exp((vf_load_first(x + j, lanes) - shift) / temperature);
      if (out) vf_store_first(out + j, term, lanes);
      for (ptrdiff_t i = 0; i < lanes; i++) rest += term[i];
    }
    total += (double)rest;
  }
  return total;
}

#endif
