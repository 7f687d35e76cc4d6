// The head in row chunks: the size of a chunk, the last partial one included, changes nothing but the order of sums.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { rows, type Tensor } from "../../lib/core/tensor.ts";
import { headRows, trainingPlan } from "../../lib/model/activations.ts";
import { forward, type Model } from "../../lib/model/forward.ts";
import { headLoss, headLossBackward } from "../../lib/model/head.ts";
import { allocateParameters, residentGradients, residentWeights } from "../../lib/model/weights.ts";
import { DEVICES, onDevices } from "../backend/devices.ts";
import { crossEntropyBackward, crossEntropyForward } from "../reference/cross_entropy.ts";
import { relativeError } from "../reference/finite_differences.ts";
import { linearBackwardInput, linearBackwardWeight, linearForward } from "../reference/linear.ts";
import { type Golden, goldenParameters, readGolden, reals } from "./golden_llama.ts";

const B = 2, T = 24, SCALE = 1 / 48;
// Three products one after another.
const TOLERANCE = 4e-6;

/** Runs the head on chunks of `chunk` rows and compares with the float64 reference on the hidden states it got. */
async function checkHead(backend: Backend, golden: Golden, chunk: number): Promise<void> {
  const { config } = golden, { hiddenSize: C } = config;
  using params = await goldenParameters(backend, golden);
  using gradients = allocateParameters(backend, config, "gradients", backend.precision.grad);
  using whole = trainingPlan(backend, config, B, T, "none");
  using arena = backend.allocate("losses", {
    losses: { dtype: "f32", shape: [B * T] },
    again: { dtype: "f32", shape: [B * T] },
  });
  const { losses, again } = arena.tensors;
  const plan = { ...whole, logits: rows(whole.logits, 0, chunk) };
  const model: Model = { config, backend, weights: residentWeights(params) };
  const grads = residentGradients(backend, gradients);
  const targets = golden.targets.map((target, n) => n % 5 === 0 ? -1 : target);
  backend.write(plan.tokens, golden.inputs);
  backend.write(plan.targets, targets);
  grads.begin(0);
  forward(model, plan.tokens, plan, null);
  headLoss(model, plan, again);
  headLossBackward(model, plan, losses, SCALE, plan.gradients.dNormed, grads);

  const hidden = await reals(backend, plan.hidden);
  const weight = await reals(backend, params.root.lmHead);
  const logits = linearForward(hidden, weight, C, null);
  const dLogits = crossEntropyBackward(logits, targets, SCALE);
  const check = async (name: string, tensor: Tensor, expected: Float64Array) => {
    const error = relativeError(await reals(backend, tensor), expected);
    assert.ok(error <= TOLERANCE, `${name} in chunks of ${chunk}: relative error ${error}`);
  };
  await check("losses", losses, crossEntropyForward(logits, targets));
  await check("dHidden", plan.gradients.dNormed, linearBackwardInput(dLogits, weight, C));
  await check("dWeight", gradients.root.lmHead, linearBackwardWeight(dLogits, hidden, C));
  assert.deepEqual(await backend.read(again), await backend.read(losses));
}

onDevices("the head in chunks", DEVICES, async ([backend]) => {
  for (const name of ["gqa", "tied"] as const) {
    for (const chunk of [48, 7, 1]) await checkHead(backend, readGolden(name), chunk);
  }
});

Deno.test("headRows() are whole groups of 64, at least one, and no more rows than there are", () => {
  const { config } = readGolden("gqa");
  let previous = Infinity;
  for (const vocabSize of [256, 32000, 128_256, 2 ** 27]) {
    const count = headRows({ ...config, vocabSize }, 2 ** 20);
    assert.ok(count >= 64 && count % 64 === 0 && count <= previous, `${count} rows`);
    previous = count;
  }
  assert.equal(previous, 64);
  assert.equal(headRows(config, 33), 33);
});
