// What a run will take before it is started: parameters, steps, arithmetic, memory. Needs neither data nor a device.

import type { Footprint } from "../backend/footprint.ts";
import type { Allocation } from "../core/backend.ts";
import { trainingFlopsPerToken } from "../model/flops.ts";
import { parameterCount } from "../model/weights.ts";
import type { RunConfig } from "./config.ts";
import { countingBackend } from "./counting_backend.ts";
import { Trainer, type TrainerConfig } from "./trainer.ts";

/** The size of a run. */
export interface RunPlan {
  readonly parameters: number;
  readonly steps: number;
  readonly tokens: number;
  readonly microSteps: number;
  readonly flopsPerToken: number;
  readonly totalFlops: number;
  /** The kind of device that `memory` is for, and the dtype of activations on it. */
  readonly device: string;
  readonly precision: string;
  /** The memory table once the run has begun. */
  readonly memory: readonly Allocation[];
}

/** The memory table of training on sequences of `sequenceLength` tokens, on a device of this footprint. */
export function planTraining(
  config: TrainerConfig,
  sequenceLength: number,
  footprint: Footprint,
): readonly Allocation[] {
  using backend = countingBackend(footprint);
  using _trainer = new Trainer(backend, config, sequenceLength);
  return backend.allocations();
}

/** Plans the run on a device of this footprint without starting it. */
export function planRun(config: RunConfig, footprint: Footprint): RunPlan {
  const tokens = config.schedule.totalSteps * config.batchTokens;
  const flopsPerToken = trainingFlopsPerToken(config.model, config.data.sequenceLength);
  return {
    parameters: parameterCount(config.model),
    steps: config.schedule.totalSteps,
    tokens,
    microSteps: config.microSteps,
    flopsPerToken,
    totalFlops: flopsPerToken * tokens,
    device: footprint.kind,
    precision: footprint.precision.compute,
    memory: planTraining(config, config.data.sequenceLength, footprint),
  };
}
