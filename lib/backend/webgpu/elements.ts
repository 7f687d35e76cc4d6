// The numbers by which kernels/wgsl/elements.wgsl knows the element types of weights.

import type { DType } from "../../core/dtype.ts";

/** The types a weight may have, in the order of their numbers. */
export const WEIGHT_TYPES = ["f32", "bf16", "f16", "q8_0", "q4_0"] as const;

/** One of {@linkcode WEIGHT_TYPES}. */
export type WeightType = typeof WEIGHT_TYPES[number];

/** A weight's type, once the checks of core/checked_ops.ts are passed. @throws {TypeError} for `i32` and `u8`. */
export function weightType(dtype: DType): WeightType {
  if (dtype !== "i32" && dtype !== "u8") return dtype;
  throw new TypeError(`Cannot read a weight of ${dtype}`);
}

/** The number of a type in the shaders. */
export function weightTypeCode(dtype: DType): number {
  return WEIGHT_TYPES.indexOf(weightType(dtype));
}
