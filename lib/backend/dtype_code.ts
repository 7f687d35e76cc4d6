// How C kernels are told what the elements of a weight are.

import type { DType } from "../core/dtype.ts";
import { UnsupportedError } from "../core/errors.ts";

/**
 * The number of a dtype in kernels/c/kernels.h (enum tl_dtype) and kernels/cuda/device.cuh (enum dtype_code).
 * @throws {UnsupportedError} for types that are no weights.
 */
export function dtypeCode(dtype: DType): number {
  switch (dtype) {
    case "f32":
      return 0;
    case "bf16":
      return 1;
    case "f16":
      return 2;
    case "q8_0":
      return 3;
    case "q4_0":
      return 4;
    case "i32":
    case "u8":
      throw new UnsupportedError(`Cannot compute with weights of type ${dtype}`);
    default:
      return dtype satisfies never;
  }
}
