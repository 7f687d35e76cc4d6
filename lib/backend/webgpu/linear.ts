// Matrix products with weights on WebGPU: what is multiplied with which kernel, in pieces that a binding can hold. A
// stacked weight is one product a part, each filling its columns of the output.

import { byteLengthOf } from "../../core/dtype.ts";
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { linearKernels } from "./linear_kernels.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

/** Uses kernels/wgsl/linear.wgsl and matvec.wgsl; allocates nothing per call. */
export function linearOps(gpu: GpuContext) {
  const { multiply, multiplyFew, maxFewRows } = linearKernels(gpu);

  function forward(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    addend: Tensor | null,
    outColumn: number,
    outWidth: number,
  ): void {
    const i = rowWidth(weight), o = rowCount(weight), n = elementCount(x.shape) / i;
    const run = n <= maxFewRows ? multiplyFew : multiply;
    for (const [first, end] of rowRanges(gpu, n, 4 * Math.max(i, outWidth))) {
      const part = (tensor: Tensor) => rowsOf(tensor, n, first, end);
      for (const [firstOut, endOut] of rowRanges(gpu, o, byteLengthOf(weight.dtype, i))) {
        run({
          out: part(out),
          right: rowsOf(weight, o, firstOut, endOut),
          left: part(x),
          addend: addend === null ? null : isSame(addend, out) ? "out" : part(addend),
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
    linearBackwardInput(dX, dOut, weight) {
      const i = rowWidth(weight), o = rowCount(weight), n = elementCount(dX.shape) / i;
      for (const [first, end] of rowRanges(gpu, n, 4 * Math.max(i, o))) {
        for (const [firstOut, endOut] of rowRanges(gpu, o, byteLengthOf(weight.dtype, i))) {
          multiply({
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
    },
    linearBackwardWeight(dWeight, dOut, x) {
      const i = rowWidth(dWeight), o = rowCount(dWeight), n = elementCount(x.shape) / i;
      for (const [firstOut, endOut] of rowRanges(gpu, o, 4 * i)) {
        for (const [first, end] of rowRanges(gpu, n, 4 * Math.max(i, o))) {
          multiply({
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
    },
  } satisfies Partial<Ops>;
}

function isSame(a: Tensor, b: Tensor): boolean {
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset;
}
