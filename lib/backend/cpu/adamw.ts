// The optimizer update on the CPU, where parameters are f32 and need no master copy.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/adamw.c; allocates nothing per call. */
export function adamwOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    adamwUpdate(param, _master, grad, m, v, clip, schedule, options) {
      kernels.adamw_update(
        context,
        cpu.output(param),
        cpu.input(grad),
        cpu.output(m),
        cpu.output(v),
        cpu.input(clip),
        cpu.input(schedule),
        elementCount(param.shape),
        options.beta1,
        options.beta2,
        options.epsilon,
        options.weightDecay,
      );
    },
  } satisfies Partial<Ops>;
}
