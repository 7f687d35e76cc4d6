// What attention's forward pass works on, for training and with a cache alike.

#ifndef TINYLLAMA_ATTENTION_H
#define TINYLLAMA_ATTENTION_H

#include "threads.h"

typedef struct {
  float *out, *lse; // lse may be null
  const float *queries, *keys, *values;
  const int *positions; // row (b, t) sees slots 0 ... positions[b * t_count + t]; null: 0 ... t
  ptrdiff_t b, t, h, k, d;
  ptrdiff_t query_stride; // from one position's queries to the next, elements
  ptrdiff_t sequence_stride, head_stride, slot_stride; // of keys and of values
} attention_problem;

// One query position a sequence (t = 1) against a cache.
void tl_attention_decode(tl_context *ctx, const attention_problem *problem);

#endif
