// Root mean square norm on the CPU, forward and backward.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/rmsnorm.c; allocates nothing per call. */
export function rmsnormOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    rmsnormForward(out, rstd, x, weight, eps) {
      const c = elementCount(weight.shape), n = elementCount(x.shape) / c;
      kernels.rmsnorm_forward(
        context,
        cpu.output(out),
        cpu.optionalOutput(rstd),
        cpu.input(x),
        cpu.input(weight),
        n,
        c,
        eps,
      );
    },
    rmsnormBackward(dX, dWeight, dOut, x, weight, rstd) {
      const c = elementCount(weight.shape), n = elementCount(x.shape) / c;
      kernels.rmsnorm_backward(
        context,
        cpu.output(dX),
        cpu.output(dWeight),
        cpu.input(dOut),
        cpu.input(x),
        cpu.input(weight),
        cpu.input(rstd),
        n,
        c,
      );
    },
  } satisfies Partial<Ops>;
}
