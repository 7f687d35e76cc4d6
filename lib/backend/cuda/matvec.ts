// Products of few rows with a weight of any type on CUDA, bound by reading the weight: what decoding needs.

import ptx from "../../../kernels/dist/linear.ptx" with { type: "text" };
import type { DType } from "../../core/dtype.ts";
import { UnsupportedError } from "../../core/errors.ts";
import { elementCount, rowCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import { type CudaContext, type CudaKernel, type Extent, i32 } from "./context.ts";
import { scalarOf } from "./geometry.ts";

/** A warp an output, four a block. */
const BLOCK: Extent = [32, 4, 1];
/** Rows that a kernel multiplies at once; fewer rows leave some of it idle. */
const ROWS = [1, 4, 8] as const;
const WEIGHTS = ["f32", "bf16", "f16", "q8_0", "q4_0"] as const;

/** More rows than this are cuBLASLt's. */
export const MAX_MATVEC_ROWS = 8;

/**
 * Loads kernels/cuda/linear.cu.
 * @returns the product: columns `column` … of `out`, `width` wide, become x · weightᵀ + addend, for x of at most
 * {@linkcode MAX_MATVEC_ROWS} rows. `addend` has the shape of `out`, and may be it.
 */
export function matvec(cuda: CudaContext) {
  const scalar = scalarOf(cuda);
  const names = WEIGHTS.flatMap((weight) =>
    ROWS.map((rows) => `matvec_${weight}_${scalar}_${rows}` as const)
  );
  const kernels = cuda.load("linear", ptx, names);
  const kernelFor = (dtype: DType, n: number): CudaKernel => {
    const weight = WEIGHTS.find((one) => one === dtype), rows = ROWS.find((most) => n <= most);
    if (weight === undefined || rows === undefined) {
      throw new UnsupportedError(`Cannot multiply ${n} rows with a weight of ${dtype} on CUDA`);
    }
    return kernels[`matvec_${weight}_${scalar}_${rows}`];
  };
  return (
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    addend: Tensor | null,
    column: number,
    width: number,
  ): void => {
    const i = rowWidth(weight), o = rowCount(weight), n = elementCount(x.shape) / i;
    const sizes = [i32(n), i32(o), i32(i), i32(column), i32(width)];
    const grid: Extent = [Math.ceil(o / BLOCK[1]), 1, 1];
    cuda.launch(kernelFor(weight.dtype, n), grid, BLOCK, 0, [out, x, weight, addend, ...sizes]);
  };
}
