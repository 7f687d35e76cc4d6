// Packed, cache-blocked matrix product: C = init + A · Bᵀ in all orientations and element types. linear.c's engine.

#ifndef TINYLLAMA_GEMM_H
#define TINYLLAMA_GEMM_H

#include "threads.h"

// One operand, a matrix of `rows` x depth: element (r, k) is data[r * stride + k], or data[k * stride + r] when
// `depth_major`. Only row-major operands may have another type than TL_F32; their rows are then contiguous.
typedef struct {
  const void *data;
  int dtype;
  ptrdiff_t stride; // elements
  int depth_major;
} gemm_operand;

typedef struct {
  gemm_operand a, b;
  float *c;          // m x n, rows of c_stride
  const float *init; // like c, may be c; null means zero
  ptrdiff_t c_stride;
  ptrdiff_t m, n, k;
  int bf16; // round both operands to bf16; accumulation is f32 all the same
} gemm_problem;

void tl_gemm(tl_context *ctx, const gemm_problem *problem);

#endif
