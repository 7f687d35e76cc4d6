// Drawing the next tokens on the CPU.

import type { Ops } from "../../core/ops.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/sampling.c; allocates nothing per call. */
export function samplingOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    sampleToken(tokens, positions, logProbs, logits, seen, rng, options) {
      const [b, v] = logits.shape;
      kernels.sample_token(
        context,
        cpu.output(tokens),
        cpu.output(positions),
        cpu.output(logProbs),
        cpu.output(logits),
        cpu.optionalOutput(seen),
        cpu.input(rng),
        b,
        v,
        options.temperature,
        options.topK,
        options.topP,
        options.minP,
        options.repetitionPenalty,
      );
    },
  } satisfies Partial<Ops>;
}
