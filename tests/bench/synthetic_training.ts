// A training run without files, shared by the benches: a model of configs/models, random tokens, full optimizer steps.

import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { Backend } from "../../lib/core/backend.ts";
import { philox } from "../../lib/core/rng.ts";
import { type ModelConfig, parseModelConfig } from "../../lib/model/config.ts";
import { Trainer, type TrainerConfig, type TrainingSamples } from "../../lib/train/trainer.ts";

/** The architecture in a file of configs/models. */
export function readModelFile(path: string): ModelConfig {
  return parseModelConfig(parse(readFileSync(path, "utf8")), path);
}

/** One micro-batch a step, clipping at 1.0, AdamW as the paper has it. */
export function syntheticConfig(
  model: ModelConfig,
  batch: number,
  recompute: TrainerConfig["recompute"],
): TrainerConfig {
  return {
    model,
    microBatchSize: batch,
    microSteps: 1,
    schedule: { lr: 4e-4, minLr: 4e-5, warmupSteps: 10, totalSteps: 1000 },
    adamw: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 },
    gradClip: 1,
    recompute,
  };
}

/** A trainer of {@linkcode syntheticConfig} with initial weights, which computes nothing again. */
export function syntheticTrainer(
  backend: Backend,
  model: ModelConfig,
  batch: number,
  length: number,
): Trainer {
  const trainer = new Trainer(backend, syntheticConfig(model, batch, "none"), length);
  trainer.initialize(0);
  return trainer;
}

/** Uniform random tokens; the same index gives the same sequence. */
export function randomSamples(vocabSize: number, length: number): TrainingSamples {
  const words = new Uint32Array(4);
  return {
    batch(firstIndex, count, inputs, targets) {
      for (let i = 0; i < count * length; i++) {
        philox(words, 0, 0, firstIndex + Math.floor(i / length), i % length);
        inputs[i] = words[0] % vocabSize;
        if (i % length > 0) targets[i - 1] = inputs[i];
        if (i % length === length - 1) targets[i] = words[1] % vocabSize;
      }
    },
  };
}
