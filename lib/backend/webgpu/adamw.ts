// The optimizer update on WebGPU, where parameters are f32 and need no master copy.

import adamw from "../../../kernels/wgsl/adamw.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;
const PER_THREAD = 4;

/** Compiles kernels/wgsl/adamw.wgsl; allocates nothing per call. */
export async function adamwOps(gpu: GpuContext) {
  const kernels = await gpu.compile("adamw", [adamw], {
    update: { entryPoint: "update", constants: { GROUP, PER_THREAD } },
  });
  return {
    adamwUpdate(param, _master, grad, m, v, clip, schedule, options) {
      const { beta1, beta2, epsilon, weightDecay } = options;
      const scalars = [...decay(beta1), ...decay(beta2), epsilon, weightDecay];
      const count = elementCount(param.shape);
      for (const [first, end] of rowRanges(gpu, count, 4)) {
        const part = (tensor: typeof param) => rowsOf(tensor, count, first, end);
        gpu.run(
          kernels.update,
          [part(param), part(grad), part(m), part(v), clip, schedule],
          [end - first],
          scalars,
          Math.ceil((end - first) / GROUP / PER_THREAD),
        );
      }
    },
  } satisfies Partial<Ops>;
}

/** What the kernel needs of a β: itself, 1 − β and ln β, which is kept finite for β = 0. */
function decay(beta: number): number[] {
  return [beta, 1 - beta, Math.max(-100, Math.log(beta))];
}
