// Drawing the next tokens on WebGPU.

import philox from "../../../kernels/wgsl/philox.wgsl" with { type: "text" };
import sampling from "../../../kernels/wgsl/sampling.wgsl" with { type: "text" };
import workgroupSum from "../../../kernels/wgsl/workgroup_sum.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { reshape } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;

/** Compiles kernels/wgsl/sampling.wgsl; allocates nothing per call. */
export async function samplingOps(gpu: GpuContext) {
  const kernels = await gpu.compile("sampling", [philox, workgroupSum, sampling], {
    sample: { entryPoint: "sample", constants: { GROUP } },
  });
  return {
    sampleToken(tokens, positions, logProbs, logits, seen, rng, options) {
      const { temperature, topK, topP, minP, repetitionPenalty } = options;
      const [b, v] = logits.shape;
      const weights = reshape(gpu.scratch(b * v), [b, v]);
      for (const [first, end] of rowRanges(gpu, b, 4 * v)) {
        const part = (tensor: typeof tokens) => rowsOf(tensor, b, first, end);
        const counts = seen === null ? null : part(seen);
        gpu.run(
          kernels.sample,
          [part(tokens), part(positions), part(logProbs), part(logits), counts, part(rng), weights],
          [v, idBytes(v), seen === null ? 0 : 1, topK],
          [temperature, topP, minP, repetitionPenalty],
          end - first,
        );
      }
    },
  } satisfies Partial<Ops>;
}

/** Bytes that tell the ids of a vocabulary apart. */
function idBytes(vocabulary: number): number {
  return Math.max(1, Math.ceil(Math.log2(vocabulary) / 8));
}
