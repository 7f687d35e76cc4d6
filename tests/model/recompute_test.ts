// Recomputing activations changes memory, not numbers: the same gradients bit for bit.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { type Recompute, trainingPlan } from "../../lib/model/activations.ts";
import { backward } from "../../lib/model/backward.ts";
import { forward } from "../../lib/model/forward.ts";
import { headLossBackward } from "../../lib/model/head.ts";
import { allocateParameters, residentGradients, residentWeights } from "../../lib/model/weights.ts";
import { DEVICES, onDevices, ROUNDING_DEVICES } from "../backend/devices.ts";
import { type Golden, GOLDEN_NAMES, goldenParameters, readGolden } from "./golden_llama.ts";

const B = 2, T = 24;

/** The bytes of all gradients after two micro-steps, and of the activations' memory. */
async function gradientsOf(backend: Backend, golden: Golden, recompute: Recompute) {
  const { config } = golden;
  using params = await goldenParameters(backend, golden);
  using gradients = allocateParameters(backend, config, "gradients", backend.precision.grad);
  const before = backend.allocatedBytes;
  using plan = trainingPlan(backend, config, B, T, recompute);
  const planBytes = backend.allocatedBytes - before;
  using arena = backend.allocate("losses", { losses: { dtype: "f32", shape: [B * T] } });
  const model = { config, backend, weights: residentWeights(params) };
  const grads = residentGradients(backend, gradients);
  const dHidden = plan.gradients.dNormed;
  backend.write(plan.tokens, golden.inputs);
  backend.write(plan.targets, golden.targets);
  for (const microStep of [0, 1]) {
    grads.begin(microStep);
    forward(model, plan.tokens, plan, null);
    headLossBackward(model, plan, arena.tensors.losses, 1 / (2 * B * T), dHidden, grads);
    backward(model, plan.tokens, plan, dHidden, grads);
  }
  const bytes = await Promise.all(gradients.flats.map((flat) => backend.read(flat)));
  return { bytes, planBytes };
}

for (const name of GOLDEN_NAMES) {
  onDevices(
    `recomputation of ${name} changes no bit of a gradient`,
    [...DEVICES, ...ROUNDING_DEVICES],
    async (backends) => {
      const golden = readGolden(name);
      for (const backend of backends) {
        const none = await gradientsOf(backend, golden, "none");
        const cheap = await gradientsOf(backend, golden, "cheap");
        const block = await gradientsOf(backend, golden, "block");
        assert.ok(none.bytes.some((bytes) => new Float32Array(bytes).some((value) => value !== 0)));
        assert.deepEqual(cheap.bytes, none.bytes, "cheap");
        assert.deepEqual(block.bytes, none.bytes, "block");
        assert.ok(block.planBytes < cheap.planBytes && cheap.planBytes < none.planBytes);
      }
    },
  );
}
