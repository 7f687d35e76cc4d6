// The gated activation of the MLP on WebGPU, forward and backward.

import swiglu from "../../../kernels/wgsl/swiglu.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;

/** Compiles kernels/wgsl/swiglu.wgsl; allocates nothing per call. */
export async function swigluOps(gpu: GpuContext) {
  const constants = { GROUP };
  const kernels = await gpu.compile("swiglu", [swiglu], {
    forward: { entryPoint: "forward", constants },
    backward: { entryPoint: "backward", constants },
    backwardInPlace: { entryPoint: "backward_in_place", constants },
  });
  return {
    swigluForward(out, gateUp) {
      const f = rowWidth(gateUp) / 2, n = elementCount(out.shape) / f;
      for (const [first, end] of rowRanges(gpu, n, 8 * f)) {
        const count = (end - first) * f;
        gpu.run(
          kernels.forward,
          [rowsOf(out, n, first, end), rowsOf(gateUp, n, first, end)],
          [count, f],
          [],
          Math.ceil(count / GROUP),
        );
      }
    },
    swigluBackward(dGateUp, dOut, gateUp) {
      const f = rowWidth(gateUp) / 2, n = elementCount(dOut.shape) / f;
      const isInPlace = dGateUp.buffer === gateUp.buffer;
      for (const [first, end] of rowRanges(gpu, n, 8 * f)) {
        const part = (tensor: typeof dOut) => rowsOf(tensor, n, first, end);
        const count = (end - first) * f, groups = Math.ceil(count / GROUP);
        const outputs = [part(dGateUp), part(dOut)];
        if (isInPlace) gpu.run(kernels.backwardInPlace, outputs, [0, count, f], [], groups);
        else gpu.run(kernels.backward, [...outputs, part(gateUp)], [count, f], [], groups);
      }
    },
  } satisfies Partial<Ops>;
}
