// Losses of logits on WebGPU, and their gradient in place.

import crossEntropy from "../../../kernels/wgsl/cross_entropy.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import type { GpuContext, Kernel } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;

/** Compiles kernels/wgsl/cross_entropy.wgsl; allocates nothing per call. */
export async function crossEntropyOps(gpu: GpuContext) {
  const entryPoint = "cross_entropy";
  const kernels = await gpu.compile("cross entropy", [crossEntropy], {
    forward: { entryPoint, constants: { GROUP, GRADIENT: 0 } },
    forwardBackward: { entryPoint, constants: { GROUP, GRADIENT: 1 } },
  });
  const run = (kernel: Kernel, losses: Tensor, logits: Tensor, targets: Tensor, scale: number) => {
    const n = elementCount(targets.shape), v = elementCount(logits.shape) / n;
    for (const [first, end] of rowRanges(gpu, n, 4 * v)) {
      const part = (tensor: Tensor) => rowsOf(tensor, n, first, end);
      const rows = end - first;
      gpu.run(kernel, [part(losses), part(logits), part(targets)], [rows, v], [scale], rows);
    }
  };
  return {
    crossEntropyForward(losses, logits, targets) {
      run(kernels.forward, losses, logits, targets, 0);
    },
    crossEntropyForwardBackward(losses, logits, targets, scale) {
      run(kernels.forwardBackward, losses, logits, targets, scale);
    },
  } satisfies Partial<Ops>;
}
