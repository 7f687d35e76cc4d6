// Matrix products with weights on CUDA. Row-major matrices are cuBLASLt's transposed, so that out = x · weightᵀ is its
// outᵀ = (weightᵀ)ᵀ · xᵀ. Weights of another type than the activations are converted piece by piece before. Products of
// few rows are kernels/cuda/linear.cu's.

import { byteLengthOf } from "../../core/dtype.ts";
import type { Ops } from "../../core/ops.ts";
import { carve, elementCount, rowCount, rows, rowWidth, type Tensor } from "../../core/tensor.ts";
import type { CudaContext } from "./context.ts";
import { scalarOf } from "./geometry.ts";
import type { Matmul } from "./matmul.ts";
import { matvec, MAX_MATVEC_ROWS } from "./matvec.ts";

/** Elements of a weight that are converted at a time. */
const CONVERTED_ELEMENTS = 1 << 24;
/** How kernels/cuda/linear_tiles.cuh reads x. */
const PACK_BYTES = 16;

/** Uses cuBLASLt through `matmul` and converts weights with `cast`; allocates nothing per call but plans of new shapes. */
export function linearOps(cuda: CudaContext, matmul: Matmul, cast: Ops["cast"]) {
  return { ...forwardOp(cuda, matmul, cast), ...backwardOps(cuda, matmul) };
}

function forwardOp(cuda: CudaContext, matmul: Matmul, cast: Ops["cast"]) {
  const compute = scalarOf(cuda), elementBytes = byteLengthOf(compute, 1);
  const multiplyFew = matvec(cuda), multiply = product(cuda, matmul);
  /** x itself where it begins with a pack, as all but unusual views do; else a copy in scratch memory. */
  const inPacks = (x: Tensor): Tensor => {
    if (x.byteOffset % PACK_BYTES === 0) return x;
    const place = cuda.scratch(Math.ceil(elementCount(x.shape) * elementBytes / 4));
    const copy = carve(place, x.name, { dtype: compute, shape: x.shape }, 0);
    cast(copy, x);
    return copy;
  };
  function forward(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    addend: Tensor | null,
    column: number,
    width: number,
  ): void {
    const i = rowWidth(weight), o = rowCount(weight);
    if (elementCount(x.shape) <= MAX_MATVEC_ROWS * i) {
      return multiplyFew(out, inPacks(x), weight, addend, column, width);
    }
    if (weight.dtype === compute) return multiply(out, x, weight, addend, column, width);
    const step = Math.max(1, Math.floor(CONVERTED_ELEMENTS / i));
    const place = cuda.scratch(Math.ceil(Math.min(step, o) * i * elementBytes / 4));
    for (let first = 0; first < o; first += step) {
      const part = rows(weight, first, Math.min(first + step, o));
      const converted = carve(place, weight.name, { dtype: compute, shape: part.shape }, 0);
      cast(converted, part);
      multiply(out, x, converted, addend, column + first, width);
    }
  }
  return {
    linearForward(out, x, weight, addend) {
      const width = rowCount(weight);
      if (weight.parts === null) return forward(out, x, weight, addend, 0, width);
      let column = 0;
      for (const part of weight.parts) {
        forward(out, x, part, addend, column, width);
        column += rowCount(part);
      }
    },
  } satisfies Partial<Ops>;
}

/** Fills columns `column` … of `out`, `width` wide, for a weight of the activations' type. */
function product(cuda: CudaContext, matmul: Matmul) {
  const dtype = scalarOf(cuda), elementBytes = byteLengthOf(dtype, 1);
  const orders = {
    input: dtype,
    output: dtype,
    isATransposed: true,
    isBTransposed: false,
  } as const;
  return (
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    addend: Tensor | null,
    column: number,
    width: number,
  ): void => {
    const k = rowWidth(weight), m = rowCount(weight), n = elementCount(x.shape) / k;
    const offset = BigInt(column * elementBytes), d = cuda.address(out) + offset;
    matmul.run(
      { ...orders, m, n, k, strideA: k, strideB: k, strideD: width },
      {
        a: cuda.address(weight),
        b: cuda.address(x),
        c: addend === null ? d : cuda.address(addend) + offset,
        d,
      },
      addend !== null,
    );
  };
}

function backwardOps(cuda: CudaContext, matmul: Matmul) {
  const dtype = scalarOf(cuda);
  const ofInput = {
    input: dtype,
    output: dtype,
    isATransposed: false,
    isBTransposed: false,
  } as const;
  const ofWeight = {
    input: dtype,
    output: "f32",
    isATransposed: false,
    isBTransposed: true,
  } as const;
  return {
    linearBackwardInput(dX, dOut, weight) {
      const i = rowWidth(weight), o = rowCount(weight), n = elementCount(dX.shape) / i;
      const d = cuda.address(dX);
      matmul.run(
        { ...ofInput, m: i, n, k: o, strideA: i, strideB: o, strideD: i },
        { a: cuda.address(weight), b: cuda.address(dOut), c: d, d },
        false,
      );
    },
    linearBackwardWeight(dWeight, dOut, x) {
      const i = rowWidth(dWeight), o = rowCount(dWeight), n = elementCount(x.shape) / i;
      const d = cuda.address(dWeight);
      matmul.run(
        { ...ofWeight, m: i, n: o, k: n, strideA: i, strideB: o, strideD: i },
        { a: cuda.address(x), b: cuda.address(dOut), c: d, d },
        true,
      );
    },
  } satisfies Partial<Ops>;
}
