// Decoding with the cache against the full forward pass: prompts in pieces, and a batch whose sequences are at different
// positions.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { reshape, rows } from "../../lib/core/tensor.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { inferencePlan } from "../../lib/model/activations.ts";
import { forward, type Model } from "../../lib/model/forward.ts";
import { headLogits } from "../../lib/model/head.ts";
import { allocateKvCache } from "../../lib/model/kv_cache.ts";
import { residentWeights } from "../../lib/model/weights.ts";
import { DEVICES, onDevices } from "../backend/devices.ts";
import { relativeError } from "../reference/finite_differences.ts";
import { type Golden, goldenParameters, readGolden } from "./golden_llama.ts";

// The cached and the full pass add the same numbers in other orders.
const TOLERANCE = 5e-6;

/** Tokens (B, T) and where they stand, each sequence's consecutive. */
interface Step {
  readonly tokens: readonly (readonly number[])[];
  readonly first: readonly number[];
}

/** Runs the steps on one cache; gives the logits (B, T, V) of each. */
async function runSteps(
  model: Model,
  steps: readonly Step[],
  batch: number,
  length: number,
): Promise<Float64Array[]> {
  const { backend, config } = model, { vocabSize: V, hiddenSize: C } = config;
  const maxRows = Math.max(...steps.map(({ tokens }) => tokens.flat().length));
  using plan = inferencePlan(backend, config, maxRows, length);
  using cache = allocateKvCache(backend, config, batch, length);
  using arena = backend.allocate("tokens and logits", {
    tokens: { dtype: "i32", shape: [maxRows] },
    logits: { dtype: backend.precision.compute, shape: [maxRows, V] },
  });
  const results: Float64Array[] = [];
  for (const { tokens, first } of steps) {
    const T = tokens[0].length, N = batch * T;
    const acts = plan.at(batch, T);
    const ids = reshape(rows(arena.tensors.tokens, 0, N), [batch, T]);
    backend.write(ids, Int32Array.from(tokens.flat()));
    const positions = first.flatMap((start) => Array.from({ length: T }, (_, t) => start + t));
    backend.write(acts.positions, Int32Array.from(positions));
    forward(model, ids, acts, cache);
    const logits = rows(arena.tensors.logits, 0, N);
    headLogits(model, logits, reshape(acts.hidden, [N, C]));
    results.push(Float64Array.from(new Float32Array(await backend.read(logits))));
  }
  return results;
}

async function withModel(
  backend: Backend,
  golden: Golden,
  run: (model: Model) => Promise<void>,
): Promise<void> {
  using params = await goldenParameters(backend, golden);
  await run({ config: golden.config, backend, weights: residentWeights(params) });
}

function checkRows(found: Float64Array, expected: Float32Array, name: string): void {
  assert.equal(found.length, expected.length);
  const error = relativeError(found, Float64Array.from(expected));
  assert.ok(error <= TOLERANCE, `${name}: relative error ${error}`);
}

onDevices("a prompt in pieces gives the logits of the full pass", DEVICES, async (backends) => {
  const golden = readGolden("gqa"), V = golden.config.vocabSize;
  const ids = golden.inputs.subarray(0, 24);
  for (const backend of backends) {
    await withModel(backend, golden, async (model) => {
      const full = await computeLogits(model, ids);
      for (const pieces of [[24], [1, 5, 17, 1], new Array<number>(24).fill(1), [23, 1]]) {
        let at = 0;
        const steps = pieces.map((count): Step => {
          at += count;
          return { tokens: [[...ids.subarray(at - count, at)]], first: [at - count] };
        });
        const logits = await runSteps(model, steps, 1, 30);
        logits.forEach((found, i) => {
          const start = steps[i].first[0] * V;
          checkRows(found, full.subarray(start, start + found.length), `pieces ${pieces}`);
        });
      }
    });
  }
});

onDevices("sequences of a batch may be at different positions", DEVICES, async (backends) => {
  const golden = readGolden("tied"), V = golden.config.vocabSize;
  const sequences = [golden.inputs.subarray(0, 24), golden.inputs.subarray(24, 48)];
  // Both start with four tokens; then the second one's pieces begin two tokens earlier, over what was there.
  const starts = [[0, 0], [4, 2], [5, 3], [6, 4], [13, 11]], counts = [4, 1, 1, 7, 2];
  const steps = starts.map((first, i): Step => ({
    first,
    tokens: sequences.map((ids, b) => [...ids.subarray(first[b], first[b] + counts[i])]),
  }));
  for (const backend of backends) {
    await withModel(backend, golden, async (model) => {
      const full: Float32Array[] = [];
      for (const ids of sequences) full.push(await computeLogits(model, ids));
      const logits = await runSteps(model, steps, 2, 24);
      logits.forEach((found, i) => {
        sequences.forEach((_, b) => {
          const size = counts[i] * V, start = steps[i].first[b] * V;
          const row = found.subarray(b * size, (b + 1) * size);
          checkRows(row, full[b].subarray(start, start + size), `step ${i} of sequence ${b}`);
        });
      });
    });
  }
});
