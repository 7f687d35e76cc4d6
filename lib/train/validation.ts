// Loss on held-out text, one number per source, weighted by tokens: sources of any size are comparable.

import { setTimeout } from "node:timers/promises";
import type { RunConfig } from "./config.ts";
import type { Trainer } from "./trainer.ts";

/** Held-out text of one source, cut into micro-batches. */
export interface HeldOutSource {
  readonly name: string;
  /** Micro-batches of `count` sequences from the start; the last is filled up with targets of -1, which do not count. */
  batches(count: number): Iterable<HeldOutBatch>;
}

/** Tokens and targets (count, T). */
export interface HeldOutBatch {
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
}

/** Mean loss per token of each source, in nats, and how many tokens it was measured on. */
export interface ValidationLosses {
  readonly loss: Readonly<Record<string, number>>;
  readonly evaluated_tokens: Readonly<Record<string, number>>;
}

/** Evaluates each source on its first `config.evaluation.tokens` tokens, or all if it has fewer. */
export async function validate(
  trainer: Trainer,
  sources: readonly HeldOutSource[],
  config: Pick<RunConfig, "evaluation" | "microBatchSize">,
): Promise<ValidationLosses> {
  const loss: Record<string, number> = {};
  const evaluatedTokens: Record<string, number> = {};
  for (const source of sources) {
    let sum = 0;
    let tokens = 0;
    for (const { inputs, targets } of source.batches(config.microBatchSize)) {
      sum += await trainer.evaluate(inputs, targets);
      // Signals are looked for only when the event loop has nothing to do.
      await setTimeout(0);
      for (const target of targets) if (target >= 0) tokens++;
      if (tokens >= config.evaluation.tokens) break;
    }
    if (tokens === 0) continue;
    loss[source.name] = sum / tokens;
    evaluatedTokens[source.name] = tokens;
  }
  return { loss, evaluated_tokens: evaluatedTokens };
}
