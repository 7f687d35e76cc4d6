// VL vectors at once, in registers: their transpose, and the sum of each.

#ifndef TINYLLAMA_TRANSPOSE_H
#define TINYLLAMA_TRANSPOSE_H

#include "simd.h"

// One step of an in-place transpose: swaps the off-diagonal D x D blocks of each 2D x 2D block.
#define LOW(l, D) ((l) & (D) ? VL + (l) - (D) : (l))
#define HIGH(l, D) ((l) & (D) ? VL + (l) : (l) + (D))
#if VL == 16
#define LANES(F, D) F(0, D), F(1, D), F(2, D), F(3, D), F(4, D), F(5, D), F(6, D), F(7, D), \
                    F(8, D), F(9, D), F(10, D), F(11, D), F(12, D), F(13, D), F(14, D), F(15, D)
#elif VL == 8
#define LANES(F, D) F(0, D), F(1, D), F(2, D), F(3, D), F(4, D), F(5, D), F(6, D), F(7, D)
#else
#define LANES(F, D) F(0, D), F(1, D), F(2, D), F(3, D)
#endif
#define SWAP_BLOCKS(D)                                                     \
  _Pragma("GCC unroll 16") for (int i = 0; i < VL; i++) {                  \
    if (i & (D)) continue;                                                 \
    vf low = __builtin_shufflevector(x[i], x[i + (D)], LANES(LOW, D));     \
    x[i + (D)] = __builtin_shufflevector(x[i], x[i + (D)], LANES(HIGH, D)); \
    x[i] = low;                                                            \
  }

static inline __attribute__((always_inline)) void transpose(vf x[VL]) {
#if VL == 16
  SWAP_BLOCKS(8)
#endif
#if VL >= 8
  SWAP_BLOCKS(4)
#endif
  SWAP_BLOCKS(2)
  SWAP_BLOCKS(1)
}

// Sums of the lanes of the first, second, ... vector, each in a fixed order. Destroys x.
#define FOLD_BLOCKS(D)                                                       \
  _Pragma("GCC unroll 16") for (int i = 0; i < (D); i++)                     \
    x[i] = __builtin_shufflevector(x[i], x[i + (D)], LANES(LOW, D)) +        \
           __builtin_shufflevector(x[i], x[i + (D)], LANES(HIGH, D));

static inline __attribute__((always_inline)) vf sum_each(vf x[VL]) {
#if VL == 16
  FOLD_BLOCKS(8)
#endif
#if VL >= 8
  FOLD_BLOCKS(4)
#endif
  FOLD_BLOCKS(2)
  FOLD_BLOCKS(1)
  return x[0];
}

#undef FOLD_BLOCKS
#undef LOW
#undef HIGH
#undef LANES
#undef SWAP_BLOCKS

#endif
