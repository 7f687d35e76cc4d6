// Counter-based random numbers, the function of lib/core/rng.ts: Philox4x32-10 of Salmon et al. 2011, "Parallel Random
// Numbers: As Easy as 1, 2, 3".

#ifndef TINYLLAMA_PHILOX_CUH
#define TINYLLAMA_PHILOX_CUH

#include "device.cuh"

constexpr int PHILOX_ROUNDS = 10;

// Four random words in place of the counter's four.
DEVICE void philox(uint32_t counter[4], uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < PHILOX_ROUNDS; round++, key0 += 0x9e3779b9u, key1 += 0xbb67ae85u) {
    uint64_t first = (uint64_t)0xd2511f53u * counter[0], second = (uint64_t)0xcd9e8d57u * counter[2];
    counter[0] = (uint32_t)(second >> 32) ^ counter[1] ^ key0;
    counter[1] = (uint32_t)second;
    counter[2] = (uint32_t)(first >> 32) ^ counter[3] ^ key1;
    counter[3] = (uint32_t)first;
  }
}

// A word as a number in [0, 1) with 24 bits.
DEVICE float unit_float(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

#endif
