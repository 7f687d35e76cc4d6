// Matrix products with weights on the CPU. A stacked weight is one product a part, each filling its columns of the output.

import type { Ops } from "../../core/ops.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import { dtypeCode } from "../dtype_code.ts";
import type { CpuContext } from "./context.ts";
import type { Address } from "./kernels.ts";

/** Binds kernels/c/linear.c; allocates nothing per call. */
export function linearOps(cpu: CpuContext) {
  const { kernels, context, matmul } = cpu;
  return {
    linearForward(out, x, weight, addend) {
      const i = weight.shape[weight.shape.length - 1];
      const o = elementCount(weight.shape) / i, n = elementCount(x.shape) / i;
      if (weight.parts !== null) return stackedForward(cpu, out, x, weight.parts, addend, n, o);
      kernels.linear_forward(
        context,
        cpu.output(out),
        cpu.input(x),
        cpu.input(weight),
        dtypeCode(weight.dtype),
        cpu.optionalInput(addend),
        n,
        o,
        i,
        o,
        matmul,
      );
    },
    linearBackwardInput(dX, dOut, weight) {
      const i = weight.shape[weight.shape.length - 1];
      const o = elementCount(weight.shape) / i, n = elementCount(dX.shape) / i;
      kernels.linear_backward_input(
        context,
        cpu.output(dX),
        cpu.input(dOut),
        cpu.input(weight),
        n,
        o,
        i,
        matmul,
      );
    },
    linearBackwardWeight(dWeight, dOut, x) {
      const i = dWeight.shape[dWeight.shape.length - 1];
      const o = elementCount(dWeight.shape) / i, n = elementCount(x.shape) / i;
      kernels.linear_backward_weight(
        context,
        cpu.output(dWeight),
        cpu.input(dOut),
        cpu.input(x),
        n,
        o,
        i,
        matmul,
      );
    },
  } satisfies Partial<Ops>;
}

function stackedForward(
  cpu: CpuContext,
  out: Tensor,
  x: Tensor,
  parts: readonly Tensor[],
  addend: Tensor | null,
  n: number,
  width: number,
): void {
  let column = 0;
  for (const part of parts) {
    const i = part.shape[part.shape.length - 1], o = elementCount(part.shape) / i;
    const start: Address = addend === null
      ? cpu.optionalInput(null)
      : cpu.input(addend, column * 4);
    cpu.kernels.linear_forward(
      cpu.context,
      cpu.output(out, column * 4),
      cpu.input(x),
      cpu.input(part),
      dtypeCode(part.dtype),
      start,
      n,
      o,
      i,
      width,
      cpu.matmul,
    );
    column += o;
  }
}
