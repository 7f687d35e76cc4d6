// Matrix products with weights on WebGPU, in pieces that a binding can hold. A stacked weight is one product a part, each
// filling its columns of the output.

import type { Ops } from "../../core/ops.ts";
import { elementCount, rowCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { maxDepth, multiply, weightRowBytes } from "./linear_kernels.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

/** Uses kernels/wgsl/linear.wgsl and matvec.wgsl; allocates nothing per call. */
export function linearOps(gpu: GpuContext) {
  return {
    linearForward(out, x, weight, addend) {
      const outWidth = rowCount(weight);
      let outColumn = 0;
      for (const part of weight.parts ?? [weight]) {
        forward(gpu, out, x, part, addend, outColumn, outWidth);
        outColumn += rowCount(part);
      }
    },
    linearBackwardInput: (dX, dOut, weight) => backwardInput(gpu, dX, dOut, weight),
    linearBackwardWeight: (dWeight, dOut, x) => backwardWeight(gpu, dWeight, dOut, x),
  } satisfies Partial<Ops>;
}

function forward(
  gpu: GpuContext,
  out: Tensor,
  x: Tensor,
  weight: Tensor,
  addend: Tensor | null,
  outColumn: number,
  outWidth: number,
): void {
  const i = rowWidth(weight), o = rowCount(weight), n = elementCount(x.shape) / i;
  const isInPlace = addend !== null && addend.buffer === out.buffer &&
    addend.byteOffset === out.byteOffset;
  for (const [first, end] of rowRanges(gpu, n, 4 * Math.max(i, outWidth))) {
    const part = (tensor: Tensor) => rowsOf(tensor, n, first, end);
    for (const [firstOut, endOut] of rowRanges(gpu, o, weightRowBytes(gpu, weight))) {
      multiply(gpu, {
        out: part(out),
        right: rowsOf(weight, o, firstOut, endOut),
        left: part(x),
        addend: addend === null ? null : isInPlace ? "out" : part(addend),
        isLeftAlongK: true,
        isRightAlongK: true,
        m: end - first,
        n: endOut - firstOut,
        k: i,
        outWidth,
        outColumn: outColumn + firstOut,
        leftWidth: i,
        leftColumn: 0,
        rightWidth: i,
      });
    }
  }
}

function backwardInput(gpu: GpuContext, dX: Tensor, dOut: Tensor, weight: Tensor): void {
  const i = rowWidth(weight), o = rowCount(weight), n = elementCount(dX.shape) / i;
  for (const [first, end] of rowRanges(gpu, n, 4 * Math.max(i, o))) {
    for (
      const [firstOut, endOut] of rowRanges(gpu, o, weightRowBytes(gpu, weight), maxDepth(gpu))
    ) {
      multiply(gpu, {
        out: rowsOf(dX, n, first, end),
        right: rowsOf(weight, o, firstOut, endOut),
        left: rowsOf(dOut, n, first, end),
        addend: firstOut === 0 ? null : "out",
        isLeftAlongK: true,
        isRightAlongK: false,
        m: end - first,
        n: i,
        k: endOut - firstOut,
        outWidth: i,
        outColumn: 0,
        leftWidth: o,
        leftColumn: firstOut,
        rightWidth: i,
      });
    }
  }
}

function backwardWeight(gpu: GpuContext, dWeight: Tensor, dOut: Tensor, x: Tensor): void {
  const i = rowWidth(dWeight), o = rowCount(dWeight), n = elementCount(x.shape) / i;
  for (const [firstOut, endOut] of rowRanges(gpu, o, 4 * i)) {
    for (const [first, end] of rowRanges(gpu, n, 4 * Math.max(i, o), maxDepth(gpu))) {
      multiply(gpu, {
        out: rowsOf(dWeight, o, firstOut, endOut),
        right: rowsOf(x, n, first, end),
        left: rowsOf(dOut, n, first, end),
        addend: "out",
        isLeftAlongK: false,
        isRightAlongK: false,
        m: endOut - firstOut,
        n: i,
        k: end - first,
        outWidth: i,
        outColumn: 0,
        leftWidth: o,
        leftColumn: firstOut,
        rightWidth: i,
      });
    }
  }
}
