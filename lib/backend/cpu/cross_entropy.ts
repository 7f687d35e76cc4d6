// Losses of logits on the CPU, and their gradient in place.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/cross_entropy.c; allocates nothing per call. */
export function crossEntropyOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    crossEntropyForward(losses, logits, targets) {
      const n = elementCount(targets.shape), v = elementCount(logits.shape) / n;
      kernels.cross_entropy_forward(
        context,
        cpu.output(losses),
        cpu.input(logits),
        cpu.input(targets),
        n,
        v,
      );
    },
    crossEntropyForwardBackward(losses, logits, targets, scale) {
      const n = elementCount(targets.shape), v = elementCount(logits.shape) / n;
      kernels.cross_entropy_forward_backward(
        context,
        cpu.output(losses),
        cpu.output(logits),
        cpu.input(targets),
        n,
        v,
        scale,
      );
    },
  } satisfies Partial<Ops>;
}
