// Training on CUDA: in f32 the CPU's course within rounding, in bf16 the same course more roughly; bit for bit its own.

import assert from "node:assert/strict";
import type { RunConfig } from "../../lib/train/config.ts";
import type { StepResult } from "../../lib/train/trainer.ts";
import { cudaForTests } from "../cuda_sim/device.ts";
import { openCpu, SMALL_RUN, train } from "./training_setup.ts";

const cuda = await cudaForTests();
const STEPS = 20;
const COURSE: RunConfig = {
  ...SMALL_RUN,
  schedule: { lr: 3e-3, minLr: 3e-4, warmupSteps: 5, totalSteps: STEPS },
};

/** Relative difference of a step's loss and norm; f32 rounds in another order than the CPU. */
const F32_TOLERANCE = 1e-4;
/**
 * With weights and activations of 8 bits a gradient element is off by some 2^-8 of itself, and by twenty steps the course
 * with it; the loss is a mean over 64 tokens.
 */
const BF16_TOLERANCE = { loss: 0.01, norm: 0.05 };

function onCuda(name: string, run: () => Promise<void>): void {
  const reason = cuda.missing === null ? "" : ` (skipped: ${cuda.missing})`;
  Deno.test({ name: `${name} on ${cuda.name}${reason}`, ignore: cuda.missing !== null, fn: run });
}

function checkClose(
  found: readonly StepResult[],
  expected: readonly StepResult[],
  lossTolerance: number,
  normTolerance: number,
): void {
  assert.equal(found.length, expected.length);
  found.forEach(({ loss, gradNorm }, i) => {
    const lossError = Math.abs(loss / expected[i].loss - 1);
    const normError = Math.abs(gradNorm / expected[i].gradNorm - 1);
    assert.ok(lossError <= lossTolerance, `step ${i + 1}: loss ${loss}, CPU ${expected[i].loss}`);
    assert.ok(normError <= normTolerance, `step ${i + 1}: norm off by ${normError}`);
  });
}

onCuda("twenty steps in f32 take the course of the CPU", async () => {
  using device = cuda.open("f32", 0);
  using cpu = await openCpu(1);
  const expected = await train(cpu, COURSE, STEPS);
  checkClose(await train(device, COURSE, STEPS), expected, F32_TOLERANCE, F32_TOLERANCE);
});

onCuda("twenty steps in bf16 with f32 master weights take the course of the CPU", async () => {
  using device = cuda.open("bf16", 0);
  using cpu = await openCpu(1);
  const expected = await train(cpu, COURSE, STEPS);
  assert.ok(expected[STEPS - 1].loss < 0.97 * expected[0].loss, "the CPU made no progress");
  const found = await train(device, COURSE, STEPS);
  checkClose(found, expected, BF16_TOLERANCE.loss, BF16_TOLERANCE.norm);
});

onCuda("same seed: the same losses bit for bit, whatever the order of threads", async () => {
  using one = cuda.open("bf16", 0);
  using other = cuda.open("bf16", 7);
  const first = await train(one, SMALL_RUN, 6);
  assert.deepEqual(await train(one, SMALL_RUN, 6), first);
  assert.deepEqual(await train(other, SMALL_RUN, 6), first);
});
