// What the kernels of attention's gradient share: arguments, weights and dS of a tile of keys by queries, partial sums. The
// notation is that of attention_backward.cu.

#ifndef TINYLLAMA_ATTENTION_BACKWARD_CUH
#define TINYLLAMA_ATTENTION_BACKWARD_CUH

#include "attention_tile.cuh"

struct Backward {
  bf16 *dqkv;
  const bf16 *dout, *qkv;
  const float *lse, *delta; // (B, H, T)
  int t, h, k;
  float *parts; // (splits, B, T, 2 K, D), of backward_keys where there are several
  int splits, heads; // of a group, and of a split
};

// Of a warp's keys and some queries: weights (scores become them) and dS (from dP), keys down and queries across.
template <int M, int N>
DEVICE void weigh_keys(float weights[M][N / 8][4], float dscores[M][N / 8][4], const float *statistics, float scale) {
#pragma unroll
  for (int n = 0; n < N / 8; n++) {
    Pack<float> two = *(const Pack<float> *)(statistics + 2 * stripe_column(n, 0));
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float lse = two.number(i % 2 * 2) * LOG2_E, delta = two.number(i % 2 * 2 + 1);
#pragma unroll
      for (int m = 0; m < M; m++) {
        weights[m][n][i] = exp2_fast(weights[m][n][i] * scale - lse);
        dscores[m][n][i] = weights[m][n][i] * (dscores[m][n][i] - delta);
      }
    }
  }
}

// Scores of queries that come before a key become minus infinity.
template <int M, int N>
DEVICE void mask_queries(float scores[M][N / 8][4], int first_query, int first_key) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (first_query + stripe_column(n, i) < first_key + stripe_row(m, i / 2)) scores[m][n][i] = MINUS_INFINITY;
    }
  }
}

// Writes a warp's sums (16 M x D), each row times its factor; four lanes write 32 bytes of a row together.
template <int D, int M>
DEVICE void store_part(float *array, int stride, int first_row, int end, const float sums[M][D / 8][4], float factor) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = first_row + stripe_row(m, half);
      if (row >= end) continue;
#pragma unroll
      for (int n = 0; n < D / 8; n++)
        *(float2 *)(array + (ptrdiff_t)row * stride + stripe_column(n, 0)) = make_float2(sums[m][n][2 * half] * factor, sums[m][n][2 * half + 1] * factor);
    }
  }
}

#endif
