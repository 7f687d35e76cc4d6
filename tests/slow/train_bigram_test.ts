// A small model trained on this repository's text, byte by byte, must predict held-out text better than a bigram model
// fitted on the same bytes: it has to use more than the previous byte.

import assert from "node:assert/strict";
import { join } from "node:path";
import { philox } from "../../lib/core/rng.ts";
import { Trainer, type TrainingSamples } from "../../lib/train/trainer.ts";
import { validate } from "../../lib/train/validation.ts";
import { openCpu, SMALL_RUN } from "../train/training_setup.ts";

const ROOT = join(import.meta.dirname ?? ".", "..", "..");
const T = 128;
const STEPS = 400;
const CONFIG = {
  ...SMALL_RUN,
  model: {
    ...SMALL_RUN.model,
    vocabSize: 256,
    hiddenSize: 96,
    intermediateSize: 256,
    numLayers: 3,
    numHeads: 6,
    numKvHeads: 2,
    headDim: 16,
    maxSeqLen: T,
  },
  microBatchSize: 16,
  microSteps: 1,
  schedule: { lr: 4e-3, minLr: 4e-4, warmupSteps: 20, totalSteps: STEPS },
  evaluation: { everySteps: 1, tokens: 1 << 20 },
};

/** The first nine tenths of every text file below `folder` are for training, the rest is held out. */
function splitText(): { train: Uint8Array; heldOut: Uint8Array } {
  const train: number[] = [];
  const heldOut: number[] = [];
  const visit = (folder: string) => {
    const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
    for (const { name, isDirectory } of entries) {
      const path = join(folder, name);
      if (isDirectory) visit(path);
      else if (/\.(ts|md|h|c)$/.test(name)) {
        const bytes = Deno.readFileSync(path);
        const cut = Math.floor(bytes.length * 0.9);
        for (const byte of bytes.subarray(0, cut)) train.push(byte);
        for (const byte of bytes.subarray(cut)) heldOut.push(byte);
      }
    }
  };
  for (const folder of ["docs", "lib/core", "lib/model", "lib/train", "lib/cli"]) {
    visit(join(ROOT, folder));
  }
  return { train: Uint8Array.from(train), heldOut: Uint8Array.from(heldOut) };
}

/**
 * Mean loss in nats of a bigram model with interpolated Kneser-Ney smoothing (Kneser and Ney 1995, Chen and Goodman
 * 1999), fitted on `train`, over the successors in `heldOut`.
 */
function bigramLoss(train: Uint8Array, heldOut: Uint8Array): number {
  const pairs = new Float64Array(256 * 256);
  for (let i = 1; i < train.length; i++) pairs[train[i - 1] * 256 + train[i]]++;
  const contexts = new Float64Array(256);
  const successors = new Float64Array(256);
  const predecessors = new Float64Array(256);
  let kinds = 0, once = 0, twice = 0;
  pairs.forEach((count, pair) => {
    if (count === 0) return;
    contexts[pair >> 8] += count;
    successors[pair >> 8]++;
    predecessors[pair & 255]++;
    kinds++;
    if (count === 1) once++;
    if (count === 2) twice++;
  });
  const discount = once / (once + 2 * twice);
  let loss = 0;
  for (let i = 1; i < heldOut.length; i++) {
    const [a, b] = [heldOut[i - 1], heldOut[i]];
    // One imagined predecessor for every byte: no byte is impossible.
    const backoff = (predecessors[b] + 1) / (kinds + 256);
    const probability = contexts[a] === 0 ? backoff : (Math.max(pairs[a * 256 + b] - discount, 0) +
      discount * successors[a] * backoff) / contexts[a];
    loss -= Math.log(probability);
  }
  return loss / (heldOut.length - 1);
}

/** Windows of `text` at places drawn from the sample's index. */
function randomWindows(text: Uint8Array): TrainingSamples {
  const words = new Uint32Array(4);
  return {
    batch(firstIndex, count, inputs, targets) {
      for (let i = 0; i < count; i++) {
        philox(words, 3407, 0, firstIndex + i, 0);
        const start = words[0] % (text.length - T - 1);
        inputs.set(text.subarray(start, start + T), i * T);
        targets.set(text.subarray(start + 1, start + T + 1), i * T);
      }
    },
  };
}

/** All of `text` in micro-batches; what is missing in the last counts nothing. */
function* inOrder(text: Uint8Array, count: number) {
  for (let start = 0; start + 1 < text.length; start += count * T) {
    const inputs = new Int32Array(count * T);
    const targets = new Int32Array(count * T).fill(-1);
    inputs.set(text.subarray(start, start + count * T));
    targets.set(text.subarray(start + 1, start + count * T + 1));
    yield { inputs, targets };
  }
}

Deno.test("a small model beats a smoothed bigram model on held-out text", async () => {
  const { train, heldOut } = splitText();
  const bigram = bigramLoss(train, heldOut);
  using backend = await openCpu(2);
  using trainer = new Trainer(backend, CONFIG, T);
  trainer.initialize(CONFIG.seed);
  const samples = randomWindows(train);
  for (let step = 1; step <= STEPS; step++) await trainer.step(step, samples);
  const source = { name: "text", batches: (count: number) => inOrder(heldOut, count) };
  const { loss } = await validate(trainer, [source], CONFIG);
  assert.ok(bigram > 1.5 && bigram < 3.5, `the bigram model's loss is ${bigram}`);
  assert.ok(loss.text < bigram - 0.1, `model ${loss.text}, bigram model ${bigram}`);
});
