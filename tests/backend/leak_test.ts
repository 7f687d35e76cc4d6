// Memory returns to where it started: by the backend's own count, by what the device has, and by the process.

import assert from "node:assert/strict";
import { Trainer } from "../../lib/train/trainer.ts";
import { congruentialSamples, SMALL_RUN } from "../train/training_setup.ts";
import { DEVICES, onDevices } from "./devices.ts";

const ROUNDS = 100;
const MEBIBYTE = 1 << 20;

onDevices("memory of 100 rounds of training is all given back", DEVICES, async ([backend]) => {
  const samples = congruentialSamples(SMALL_RUN.model.vocabSize, 16);
  const reserved = backend.allocatedBytes;
  using kept = backend.allocate("kept", { x: { dtype: "f32", shape: [1000] } });
  const before = backend.allocatedBytes, lines = backend.allocations();
  assert.equal(before, reserved + kept.byteLength);
  for (let round = 0; round < ROUNDS; round++) {
    using trainer = new Trainer(backend, SMALL_RUN, 16);
    trainer.initialize(round);
    await trainer.step(1, samples);
    assert.ok(backend.allocatedBytes > before);
  }
  assert.equal(backend.allocatedBytes, before);
  assert.deepEqual(backend.allocations(), lines);
});

onDevices("memory that was freed is used again", DEVICES, ([backend]) => {
  const reserved = backend.allocatedBytes;
  let before = 0;
  for (let round = 0; round < ROUNDS; round++) {
    // Together more than a 32-bit address space holds.
    using arena = backend.allocate("large", {
      x: { dtype: "f32", shape: [(44 + round % 3) * MEBIBYTE / 4] },
    });
    backend.fill(arena.tensors.x, round);
    if (round === 3) before = Deno.memoryUsage().rss;
  }
  assert.equal(backend.allocatedBytes, reserved);
  const grown = Deno.memoryUsage().rss - before;
  assert.ok(grown < 200 * MEBIBYTE, `the process grew by ${grown} bytes`);
  return Promise.resolve();
});
