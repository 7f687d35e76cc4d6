// Products of a weight matrix with a few rows: what decoding does. Bound by reading the weights once.

#ifndef TINYLLAMA_MATVEC_H
#define TINYLLAMA_MATVEC_H

#include "threads.h"

// Up to this many rows, what a row gives does not depend on how many come with it.
enum { MATVEC_MAX_ROWS = 8 };

// out = x · weightᵀ + addend; x (n, i), weight (o, i) of any type, out and addend n rows of out_stride; n at most
// MATVEC_MAX_ROWS. With bf16, x is rounded to bf16, or to 8 bits per block of 32 where the weights are quantized.
typedef struct {
  float *out;
  const float *x;
  const void *weight;
  const float *addend;
  int dtype, n, o, i, out_stride, bf16;
} matvec_problem;

void tl_matvec(tl_context *ctx, const matvec_problem *problem);

#endif
