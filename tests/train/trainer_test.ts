// Steps of training: golden trajectories, and everything that must not change their numbers.

import assert from "node:assert/strict";
import { footprintOf } from "../../lib/backend/footprint.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { DeviceError } from "../../lib/core/errors.ts";
import { planRun } from "../../lib/train/plan.ts";
import { Trainer } from "../../lib/train/trainer.ts";
import { DEVICES, onDevices } from "../backend/devices.ts";
import { congruentialSamples, openCpu, SMALL_RUN, train } from "./training_setup.ts";

Deno.test("learns a rule, and gives all memory back", async () => {
  using backend = await openCpu(1);
  const before = backend.allocatedBytes;
  const schedule = { lr: 1e-2, minLr: 1e-3, warmupSteps: 5, totalSteps: 80 };
  const results = await train(backend, { ...SMALL_RUN, schedule }, 80);
  const losses = results.map((result) => result.loss);
  assert.ok(Math.abs(losses[0] - Math.log(64)) < 0.5, `first loss ${losses[0]}`);
  assert.ok(losses[79] < 0.2, `last loss ${losses[79]}`);
  assert.equal(backend.allocatedBytes, before);
});

for (const device of ["cpu", "cpu:wasm"] as const) {
  Deno.test(`same seed on ${device}: the same losses bit for bit, with 1, 2 or 3 threads`, async () => {
    const runs = [];
    for (const threads of [1, 1, 2, 3]) {
      using backend = await openCpu(threads, device);
      runs.push(await train(backend, SMALL_RUN, 8));
    }
    for (const run of runs) assert.deepEqual(run, runs[0]);
  });
}

Deno.test("another seed: other losses", async () => {
  using backend = await openCpu(1);
  const [first] = await train(backend, SMALL_RUN, 1);
  const [other] = await train(backend, { ...SMALL_RUN, seed: 1 }, 1);
  assert.notEqual(first.loss, other.loss);
});

Deno.test("recomputation changes no bit", async () => {
  using backend = await openCpu(2);
  const kept = await train(backend, SMALL_RUN, 6);
  for (const recompute of ["cheap", "block"] as const) {
    assert.deepEqual(await train(backend, { ...SMALL_RUN, recompute }, 6), kept, recompute);
  }
});

Deno.test("four micro-batches of one are one micro-batch of four", async () => {
  using backend = await openCpu(1);
  const whole = await train(backend, { ...SMALL_RUN, microBatchSize: 4, microSteps: 1 }, 6);
  const parts = await train(backend, { ...SMALL_RUN, microBatchSize: 1, microSteps: 4 }, 6);
  for (const [i, { loss, gradNorm }] of parts.entries()) {
    assert.ok(Math.abs(loss / whole[i].loss - 1) < 1e-6, `loss of step ${i + 1}`);
    assert.ok(Math.abs(gradNorm / whole[i].gradNorm - 1) < 1e-5, `norm of step ${i + 1}`);
  }
});

Deno.test("a step with a gradient that is not finite changes nothing", async () => {
  using backend = await openCpu(1);
  using trainer = new Trainer(backend, SMALL_RUN, 16);
  trainer.initialize(1);
  const samples = congruentialSamples(64, 16);
  await trainer.step(1, samples);
  // The largest finite gain: the hidden states overflow on the way to the loss.
  const norm = trainer.params.root.finalNorm;
  const gain = new Float32Array(await backend.read(norm));
  backend.fill(norm, 3e38);
  const state = () =>
    Promise.all(
      [...trainer.params.flats, ...trainer.optimizer.m.flats].map((t) => backend.read(t)),
    );
  const before = await state();
  const result = await trainer.step(2, samples);
  assert.ok(result.isSkipped);
  assert.ok(!Number.isFinite(result.loss) || !Number.isFinite(result.gradNorm));
  assert.deepEqual(await state(), before);
  backend.write(norm, gain);
  assert.ok(!(await trainer.step(3, samples)).isSkipped);
});

onDevices("the memory table of a dry run is that of the run", DEVICES, ([backend]) => {
  for (const recompute of ["none", "cheap", "block"] as const) {
    const config = { ...SMALL_RUN, recompute };
    using _trainer = new Trainer(backend, config, 16);
    const planned = planRun(config, footprintOf(backend.kind, "f32"));
    assert.deepEqual(planned.memory, backend.allocations());
  }
  return Promise.resolve();
});

Deno.test("a trainer for which memory runs out gives back what it had", async () => {
  using backend = await openCpu(1);
  const arenas = (() => {
    using _trainer = new Trainer(backend, SMALL_RUN, 16);
    return backend.allocations().length;
  })();
  assert.ok(arenas > 5);
  for (let last = 0; last < arenas; last++) {
    let left = last;
    const small: Backend = {
      ...backend,
      allocate(label, specs) {
        if (left-- === 0) throw new DeviceError(`Cannot allocate "${label}"`);
        return backend.allocate(label, specs);
      },
    };
    assert.throws(() => new Trainer(small, SMALL_RUN, 16), DeviceError);
    assert.deepEqual(backend.allocations(), []);
  }
});
