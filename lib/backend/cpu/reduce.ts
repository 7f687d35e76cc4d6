// Sums in a fixed order on the CPU, and the clip factor made of them.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/reduce.c; allocates nothing per call. */
export function reduceOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    sum(out, x) {
      kernels.reduce_sum(context, cpu.output(out), cpu.input(x), elementCount(x.shape));
    },
    sumOfSquares(out, x) {
      kernels.reduce_sum_of_squares(context, cpu.output(out), cpu.input(x), elementCount(x.shape));
    },
    clipScale(out, squares, loss, maxNorm) {
      kernels.reduce_clip_scale(
        context,
        cpu.output(out),
        cpu.input(squares),
        elementCount(squares.shape),
        cpu.input(loss),
        maxNorm,
      );
    },
  } satisfies Partial<Ops>;
}
