// The gated activation of the MLP on the CPU, forward and backward.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/swiglu.c; allocates nothing per call. */
export function swigluOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    swigluForward(out, gateUp) {
      const f = gateUp.shape[gateUp.shape.length - 1] / 2, n = elementCount(out.shape) / f;
      kernels.swiglu_forward(context, cpu.output(out), cpu.input(gateUp), n, f);
    },
    swigluBackward(dGateUp, dOut, gateUp) {
      const f = gateUp.shape[gateUp.shape.length - 1] / 2, n = elementCount(dOut.shape) / f;
      kernels.swiglu_backward(
        context,
        cpu.output(dGateUp),
        cpu.input(dOut),
        cpu.input(gateUp),
        n,
        f,
      );
    },
  } satisfies Partial<Ops>;
}
