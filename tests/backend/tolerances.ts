// How far a device may be from the float64 reference, by dtype and nowhere else. The measure is max |a − b| / max |b|
// over a tensor. Inputs are rounded to their dtype before the reference sees them, so only computing is judged.

import type { DType } from "../../lib/core/dtype.ts";

/** Limits by the dtype in which an output is stored. */
export const TOLERANCE: Readonly<Record<DType, number>> = {
  // Ids and positions are copied or counted.
  i32: 0,
  u8: 0,
  // 2^-19. Sums of up to 4200 terms, rounded at every step by at most 2^-24, wander by some 2^-20 in any order; one term
  // that is missing or wrong is off by a hundred times this.
  f32: 2e-6,
  // Half a unit in the last place of the stored number, which computing in f32 does not add to. With 8 significant bits
  // that is 2^-8 of a number just above a power of two, where a tensor's largest may be.
  bf16: 2 ** -8 + 2e-6,
  f16: 2 ** -12 + 2e-6,
  // Bit for bit: how blocks are rounded is part of the format.
  q8_0: 0,
  q4_0: 0,
};

/**
 * Products of quantized weights where `matmul` is not f32: activations may be rounded to 8 bits per block of 32. That
 * is off by 1/440 of the block's largest on average, 0.4 % of an output's standard deviation; four such deviations,
 * against a largest output of at least one and a half.
 */
export const TOLERANCE_8_BIT = 1 / 64;
