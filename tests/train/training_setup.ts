// Shared by the training tests: a small run, samples without files, and a device.

import type { Backend } from "../../lib/core/backend.ts";
import { openBackend } from "../../lib/backend/open.ts";
import { type RunConfig } from "../../lib/train/config.ts";
import { type StepResult, Trainer, type TrainingSamples } from "../../lib/train/trainer.ts";

/** The CPU, in f32. */
export function openCpu(threads: number, device: RunConfig["device"] = "cpu"): Promise<Backend> {
  return openBackend({ device, threads, matmul: "f32" });
}

/** Milliseconds a step: 2 layers of grouped-query attention, 4 sequences of 16 tokens as 2 micro-batches. */
export const SMALL_RUN: RunConfig = {
  name: "small",
  output: "",
  seed: 3407,
  model: {
    vocabSize: 64,
    hiddenSize: 32,
    intermediateSize: 80,
    numLayers: 2,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 8,
    maxSeqLen: 16,
    ropeTheta: 10000,
    ropeFactor: 1,
    rmsNormEps: 1e-5,
    tieWordEmbeddings: false,
    bosId: 1,
    eosIds: [2],
  },
  data: { path: "", sequenceLength: 16, weights: null },
  batchTokens: 64,
  microBatchSize: 2,
  microSteps: 2,
  schedule: { lr: 1e-2, minLr: 1e-3, warmupSteps: 2, totalSteps: 8 },
  adamw: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 },
  gradClip: 1,
  precision: "f32",
  recompute: "none",
  device: "cpu",
  threads: 1,
  evaluation: { everySteps: 4, tokens: 64 },
  checkpoint: { everySteps: 3, keepLast: 2, keepEvery: null },
  maxSkippedSteps: 2,
};

/** Sequences in which each token decides the next: x → 5x + 3 modulo `vocabSize`. */
export function congruentialSamples(vocabSize: number, sequenceLength: number): TrainingSamples {
  return {
    batch(firstIndex, count, inputs, targets) {
      for (let i = 0; i < count * sequenceLength; i++) {
        const isFirst = i % sequenceLength === 0;
        const sample = firstIndex + Math.floor(i / sequenceLength);
        inputs[i] = isFirst ? sample * 7 % vocabSize : targets[i - 1];
        targets[i] = (inputs[i] * 5 + 3) % vocabSize;
      }
    },
  };
}

/** The results of the run's first `steps` steps. */
export async function train(
  backend: Backend,
  config: RunConfig,
  steps: number,
): Promise<StepResult[]> {
  using trainer = new Trainer(backend, config, config.data.sequenceLength);
  trainer.initialize(config.seed);
  const samples = congruentialSamples(config.model.vocabSize, config.data.sequenceLength);
  const results: StepResult[] = [];
  for (let step = 1; step <= steps; step++) results.push(await trainer.step(step, samples));
  return results;
}
