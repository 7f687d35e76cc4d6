// Drawing the next tokens on CUDA, a block a sequence.

import ptx from "../../../kernels/dist/sampling.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/sampling_90.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { type CudaContext, f32, i32 } from "./context.ts";

/** As in kernels/cuda/sampling_ranking.cuh. */
const THREADS = 1024;

/** Loads kernels/cuda/sampling.cu; allocates nothing per call. */
export function samplingOps(cuda: CudaContext) {
  const names = ["sample_token"] as const;
  const kernels = cuda.load("sampling", ptx, names, { ptx: dependentPtx, entries: names });
  return {
    sampleToken(tokens, positions, logProbs, logits, seen, rng, options) {
      const [b, v] = logits.shape;
      const { temperature, topK, topP, minP, repetitionPenalty } = options;
      cuda.launch(kernels.sample_token, [b, 1, 1], [THREADS, 1, 1], 0, [
        ...[tokens, positions, logProbs, logits, seen, rng, cuda.scratch(2 * b * v), i32(v)],
        ...[f32(temperature), i32(topK), f32(topP), f32(minP), f32(repetitionPenalty)],
      ]);
    },
  } satisfies Partial<Ops>;
}
