// What a run will take before it is started: parameters, steps, arithmetic, memory. Needs neither data nor a device.

import type { Allocation } from "../core/backend.ts";
import { trainingFlopsPerToken } from "../model/flops.ts";
import { parameterCount } from "../model/weights.ts";
import type { RunConfig } from "./config.ts";
import { countingBackend } from "./counting_backend.ts";
import { Trainer } from "./trainer.ts";

/** The size of a run. */
export interface RunPlan {
  readonly parameters: number;
  readonly steps: number;
  readonly tokens: number;
  readonly microSteps: number;
  readonly flopsPerToken: number;
  readonly totalFlops: number;
  /** Arenas in f32, as a CPU allocates them. */
  readonly memory: readonly Allocation[];
}

/** Plans the run without starting it. */
export function planRun(config: RunConfig): RunPlan {
  using backend = countingBackend();
  using _trainer = new Trainer(backend, config, config.data.sequenceLength);
  const tokens = config.schedule.totalSteps * config.batchTokens;
  const flopsPerToken = trainingFlopsPerToken(config.model, config.data.sequenceLength);
  return {
    parameters: parameterCount(config.model),
    steps: config.schedule.totalSteps,
    tokens,
    microSteps: config.microSteps,
    flopsPerToken,
    totalFlops: flopsPerToken * tokens,
    memory: backend.allocations(),
  };
}
