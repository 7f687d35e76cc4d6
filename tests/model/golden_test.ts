// The whole model against transformers: logits, loss, every gradient, ten steps of AdamW, greedy tokens. Tensors
// are compared by max |a − b| / max |b|, parameters after the steps as golden_llama.ts says.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { reshape, rows } from "../../lib/core/tensor.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { loadWeights } from "../../lib/io/hf_weights.ts";
import { inferencePlan, trainingPlan } from "../../lib/model/activations.ts";
import { backward } from "../../lib/model/backward.ts";
import { forward, type Model } from "../../lib/model/forward.ts";
import { headLogits, headLossBackward } from "../../lib/model/head.ts";
import { allocateKvCache } from "../../lib/model/kv_cache.ts";
import { allocateParameters, residentGradients, residentWeights } from "../../lib/model/weights.ts";
import { weightSlots } from "../../lib/train/snapshot.ts";
import { Trainer, type TrainingSamples } from "../../lib/train/trainer.ts";
import { DEVICES, onDevices } from "../backend/devices.ts";
import { sum } from "../reference/reduce.ts";
import {
  checkAfterTenSteps,
  checkClose,
  checkGradients,
  type Golden,
  GOLDEN_NAMES,
  goldenParameters,
  readGolden,
  reals,
} from "./golden_llama.ts";

const B = 2, T = 24;
const PASS = 2e-5, STEPS = 1e-4;

for (const name of GOLDEN_NAMES) {
  onDevices(`golden ${name}: logits, loss and every gradient`, DEVICES, async (backends) => {
    const golden = readGolden(name), results: unknown[] = [];
    for (const backend of backends) results.push(await checkPass(backend, golden));
    for (const result of results) assert.deepEqual(result, results[0], "depends on the threads");
  });

  onDevices(`golden ${name}: ten steps of AdamW`, DEVICES, async (backends) => {
    const golden = readGolden(name), results: unknown[] = [];
    for (const backend of backends) results.push(await checkTrajectory(backend, golden));
    for (const result of results) assert.deepEqual(result, results[0], "depends on the threads");
  });

  onDevices(`golden ${name}: greedy tokens, with and without the cache`, DEVICES, async (all) => {
    const golden = readGolden(name);
    for (const backend of all) {
      using params = await goldenParameters(backend, golden);
      const model = { config: golden.config, backend, weights: residentWeights(params) };
      assert.deepEqual(await greedyWithCache(model, golden), golden.greedy);
      assert.deepEqual(await greedyWithoutCache(model, golden), golden.greedy);
    }
  });
}

/** Compares a forward and a backward pass; gives the losses and one gradient. */
async function checkPass(backend: Backend, golden: Golden): Promise<Float64Array[]> {
  const { config } = golden, { grad, compute } = backend.precision;
  using params = await goldenParameters(backend, golden);
  using gradients = allocateParameters(backend, config, "gradients", grad);
  using plan = trainingPlan(backend, config, B, T, "none");
  using arena = backend.allocate("results", {
    losses: { dtype: "f32", shape: [B * T] },
    logits: { dtype: compute, shape: [B * T, config.vocabSize] },
    dHidden: { dtype: compute, shape: [B, T, config.hiddenSize] },
  });
  const { losses, logits, dHidden } = arena.tensors;
  const model: Model = { config, backend, weights: residentWeights(params) };
  const grads = residentGradients(backend, gradients);
  backend.write(plan.tokens, golden.inputs);
  backend.write(plan.targets, golden.targets);
  grads.begin(0);
  forward(model, plan.tokens, plan, null);
  headLogits(model, logits, reshape(plan.hidden, [B * T, config.hiddenSize]));
  headLossBackward(model, plan, losses, 1 / (B * T), dHidden, grads);
  backward(model, plan.tokens, plan, dHidden, grads);

  const lossValues = await reals(backend, losses);
  checkClose(golden, "logits", await reals(backend, logits), PASS);
  checkClose(golden, "loss", Float64Array.of(sum(lossValues) / (B * T)), PASS);
  await checkGradients(backend, golden, gradients, PASS);
  return [lossValues, await reals(backend, gradients.root.embed)];
}

/** Ten steps from the checkpoint; gives loss and norm of each. */
async function checkTrajectory(backend: Backend, golden: Golden): Promise<unknown[]> {
  const { config, trajectory, batches } = golden;
  using trainer = new Trainer(backend, {
    model: config,
    microBatchSize: B,
    microSteps: 1,
    schedule: { lr: 4e-3, minLr: 4e-4, warmupSteps: 3, totalSteps: 10 },
    adamw: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 },
    gradClip: 1,
    recompute: "none",
  }, T);
  await loadWeights(backend, golden.weightsPath, weightSlots(config, trainer.params));
  trainer.roundParameters();
  const samples: TrainingSamples = {
    batch(firstIndex, count, inputs, targets) {
      for (let row = 0; row < count; row++) {
        const start = (firstIndex + row) * (T + 1);
        inputs.set(batches.subarray(start, start + T), row * T);
        targets.set(batches.subarray(start + 1, start + T + 1), row * T);
      }
    },
  };
  const results = [];
  for (const { step, loss, grad_norm } of trajectory) {
    const result = await trainer.step(step, samples);
    results.push(result);
    assert.ok(!result.isSkipped);
    assert.ok(Math.abs(result.loss / loss - 1) < STEPS, `loss ${result.loss} of step ${step}`);
    const ratio = result.gradNorm / grad_norm;
    assert.ok(Math.abs(ratio - 1) < STEPS, `norm ${result.gradNorm} of step ${step}`);
  }
  await checkAfterTenSteps(backend, golden, trainer.params, STEPS);
  return results;
}

async function greedyWithoutCache(model: Model, golden: Golden): Promise<number[]> {
  const ids = [...golden.prompt];
  while (ids.length < golden.greedy.length) {
    ids.push(argmax(await computeLogits(model, Int32Array.from(ids), "last")));
  }
  return ids;
}

/** The prompt in one pass, then one token at a time. */
async function greedyWithCache(model: Model, golden: Golden): Promise<number[]> {
  const { backend, config } = model, S = golden.greedy.length, V = config.vocabSize;
  using plan = inferencePlan(backend, config, golden.prompt.length, S);
  using cache = allocateKvCache(backend, config, 1, S);
  using arena = backend.allocate("tokens and logits", {
    tokens: { dtype: "i32", shape: [golden.prompt.length] },
    logits: { dtype: backend.precision.compute, shape: [1, V] },
  });
  const ids: number[] = [];
  for (let next = golden.prompt; ids.length + next.length < S + 1;) {
    const acts = plan.at(1, next.length);
    const tokens = reshape(rows(arena.tensors.tokens, 0, next.length), [1, next.length]);
    backend.write(tokens, Int32Array.from(next));
    backend.write(acts.positions, Int32Array.from(next, (_, i) => ids.length + i));
    forward(model, tokens, acts, cache);
    const hidden = reshape(acts.hidden, [next.length, config.hiddenSize]);
    headLogits(model, arena.tensors.logits, rows(hidden, next.length - 1, next.length));
    ids.push(...next);
    next = [argmax(new Float32Array(await backend.read(arena.tensors.logits)))];
  }
  return ids;
}

function argmax(values: Float32Array): number {
  return values.indexOf(values.reduce((a, b) => Math.max(a, b)));
}
