// Device memory: the table that a dry run prints is the run's and what the card gave, what does not fit is said by name, and
// all of it comes back.

import assert from "node:assert/strict";
import { footprintOf } from "../../lib/backend/footprint.ts";
import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { loadRunConfig, type RunConfig } from "../../lib/train/config.ts";
import { planRun } from "../../lib/train/plan.ts";
import { Trainer } from "../../lib/train/trainer.ts";
import { congruentialSamples, SMALL_RUN } from "../train/training_setup.ts";
import { cuda, onCuda } from "./on_cuda.ts";

const TABLE_TOLERANCE = 0.05;
/** Of the device's free memory, what a run may take. */
const USABLE_SHARE = 0.85;
/** The driver hands out pages of this size. */
const PAGE_BYTES = 2 << 20;

function bytesOf(lines: readonly { readonly byteLength: number }[]): number {
  return lines.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function plannedBytes(config: RunConfig): number {
  return bytesOf(planRun(config, footprintOf("cuda", "bf16")).memory);
}

/** The largest run that the device holds, with one micro-batch a step: the paper's, or less of it. */
function realRun(freeBytes: number): RunConfig {
  if (cuda.isSimulated) return loadRunConfig("demo").config;
  const { config } = loadRunConfig("tinyllama-1.1b");
  const runs = [8, 2, 1].map((microBatchSize) => ({ ...config, microBatchSize, microSteps: 1 }));
  const found = runs.find((one) => plannedBytes(one) < USABLE_SHARE * freeBytes);
  assert.ok(found !== undefined, `no run fits ${freeBytes} bytes`);
  return found;
}

onCuda("the memory table of a dry run is that of the run, before and after a step", async () => {
  for (const precision of ["bf16", "f32"] as const) {
    for (const recompute of ["none", "cheap", "block"] as const) {
      using backend = cuda.open(precision, 0);
      const config = { ...SMALL_RUN, recompute };
      using trainer = new Trainer(backend, config, config.data.sequenceLength);
      const planned = planRun(config, footprintOf("cuda", precision)).memory;
      assert.deepEqual(backend.allocations(), planned);
      trainer.initialize(1);
      await trainer.step(1, congruentialSamples(config.model.vocabSize, 16));
      assert.deepEqual(backend.allocations(), planned);
      assert.equal(backend.allocatedBytes, bytesOf(planned));
    }
  }
});

onCuda("a dry run foretells what the device gives, within 5 percent", async () => {
  const device = cuda.openDevice(), before = device.memoryInfo();
  using backend = cudaBackend(device, "bf16");
  const config = realRun(before.freeBytes), T = config.data.sequenceLength;
  using trainer = new Trainer(backend, config, T);
  // A step of it takes the simulator minutes; the test before makes one of a small run.
  if (!cuda.isSimulated) await trainer.step(1, congruentialSamples(config.model.vocabSize, T));
  const taken = before.freeBytes - device.memoryInfo().freeBytes;
  const planned = plannedBytes(config);
  assert.ok(Math.abs(planned / taken - 1) <= TABLE_TOLERANCE, `planned ${planned}, taken ${taken}`);
});

onCuda("memory that is not there is an error that names the arena and what would fit", () => {
  const device = cuda.openDevice(), { totalBytes } = device.memoryInfo();
  using backend = cudaBackend(device, "f32");
  const specs: Record<string, { dtype: "f32"; shape: number[] }> = {};
  for (let size = 0; size <= totalBytes; size += 2 ** 32) {
    specs[`part ${size}`] = { dtype: "f32", shape: [2 ** 30] };
  }
  assert.throws(
    () => backend.allocate("everything", specs),
    /Cannot allocate "everything" on cuda \(.*\): asked for \d+ bytes, .* are free, and no more than that fits/,
  );
  using _fits = backend.allocate("something", { x: { dtype: "f32", shape: [1 << 20] } });
  return Promise.resolve();
});

onCuda("a closed backend has given all memory back to the device", async () => {
  const free: number[] = [];
  for (let round = 0; round < 6; round++) {
    {
      using backend = cuda.open("bf16", 0);
      using trainer = new Trainer(backend, SMALL_RUN, 16);
      await trainer.step(1, congruentialSamples(SMALL_RUN.model.vocabSize, 16));
    }
    using device = cuda.openDevice();
    free.push(device.memoryInfo().freeBytes);
  }
  // The first time the driver and cuBLASLt keep something for themselves.
  assert.ok(free[5] >= free[1] - PAGE_BYTES, `free after each round: ${free}`);
});
