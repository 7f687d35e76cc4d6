// What the GPU benches measure on: TinyLlama 1.1B as the paper trains it, or a model so small that the simulator runs every
// part in seconds.

import { join } from "node:path";
import type { ModelConfig } from "../../lib/model/config.ts";
import { readModelFile } from "./synthetic_training.ts";

/** One set of sizes. */
export interface BenchSizes {
  readonly name: string;
  readonly model: ModelConfig;
  /** The file of `model`, which peers read. */
  readonly modelPath: string;
  /** Sequences and tokens of a micro-batch. */
  readonly batch: number;
  readonly length: number;
  /** Training steps before and in the measurement. */
  readonly warmup: number;
  readonly steps: number;
  /** Tokens of the prompt before decoding, tokens decoded, and tokens of the prompt whose passage is timed. */
  readonly depth: number;
  readonly fresh: number;
  readonly prompt: number;
  /** How often a kernel is timed, and the time on the device that its calls should fill each time. */
  readonly rounds: number;
  readonly roundMs: number;
  /** Operands of small kernels take turns in at least so much memory, several times the device's cache. */
  readonly turnBytes: number;
  /** Bytes copied and extent of the square product that give the ceilings. */
  readonly copyBytes: number;
  readonly productExtent: number;
}

const MODELS = join(import.meta.dirname ?? ".", "../../configs/models");

/** Every part at the paper's sizes; needs 40 GB of device memory. */
export function fullSizes(): BenchSizes {
  const modelPath = join(MODELS, "tinyllama-1.1b.yaml");
  return {
    name: "tinyllama-1.1b",
    model: readModelFile(modelPath),
    modelPath,
    batch: 8,
    length: 2048,
    warmup: 3,
    steps: 15,
    depth: 128,
    fresh: 256,
    prompt: 2048,
    rounds: 11,
    roundMs: 2,
    turnBytes: 512 << 20,
    copyBytes: 1 << 30,
    productExtent: 8192,
  };
}

/** The same mechanics in the simulator; its figures mean nothing. */
export function tinySizes(): BenchSizes {
  const modelPath = join(MODELS, "tiny.yaml");
  const model = { ...readModelFile(modelPath), vocabSize: 256, numLayers: 1 };
  return {
    name: "tiny",
    model,
    modelPath,
    batch: 1,
    length: 32,
    warmup: 1,
    steps: 2,
    depth: 8,
    fresh: 4,
    prompt: 16,
    rounds: 1,
    roundMs: 0,
    turnBytes: 1 << 12,
    copyBytes: 1 << 16,
    productExtent: 64,
  };
}
