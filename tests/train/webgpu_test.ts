// Training on WebGPU: the CPU's course within rounding, its own bit for bit, resumed and across devices.

import assert from "node:assert/strict";
import type { RunConfig } from "../../lib/train/config.ts";
import { openWebgpu, webgpuTest } from "../backend/webgpu_adapter.ts";
import { type Course, courseOf, interrupted } from "./resumed_run.ts";
import { openCpu, SMALL_RUN, train } from "./training_setup.ts";

/** Relative difference of a step's loss and norm between devices; both round in f32, in different orders. */
const STEP_TOLERANCE = 1e-4;

function checkClose(found: readonly Course[], expected: readonly Course[]): void {
  assert.equal(found.length, expected.length);
  found.forEach(({ loss, gradNorm }, i) => {
    const wanted = expected[i];
    const lossError = Math.abs(Number(loss) / Number(wanted.loss) - 1);
    const normError = Math.abs(Number(gradNorm) / Number(wanted.gradNorm) - 1);
    assert.ok(lossError <= STEP_TOLERANCE, `step ${i + 1}: loss ${loss}, CPU ${wanted.loss}`);
    assert.ok(normError <= STEP_TOLERANCE, `step ${i + 1}: norm ${gradNorm}, ${wanted.gradNorm}`);
  });
}

webgpuTest("fifty steps take the course of the CPU", async () => {
  const schedule = { lr: 3e-3, minLr: 3e-4, warmupSteps: 5, totalSteps: 50 };
  for (const recompute of ["none", "block"] as const) {
    const config: RunConfig = { ...SMALL_RUN, schedule, recompute };
    using cpu = await openCpu(1);
    using webgpu = await openWebgpu();
    const found = await train(webgpu, config, 50), expected = await train(cpu, config, 50);
    assert.ok(expected[49].loss < 0.8 * expected[0].loss, `no progress: ${expected[49].loss}`);
    checkClose(found, expected);
  }
});

webgpuTest("same seed: the same losses bit for bit", async () => {
  using one = await openWebgpu();
  using other = await openWebgpu();
  const first = await train(one, SMALL_RUN, 8);
  assert.deepEqual(await train(one, SMALL_RUN, 8), first);
  assert.deepEqual(await train(other, SMALL_RUN, 8), first);
});

webgpuTest(
  "interrupted and resumed: bit for bit, and from the CPU's checkpoint and back",
  async () => {
    using cpu = await openCpu(1);
    using webgpu = await openWebgpu();
    using later = await openWebgpu();
    const whole = courseOf(await train(webgpu, SMALL_RUN, 8));
    assert.deepEqual(await interrupted(webgpu, later), whole);
    checkClose(await interrupted(cpu, webgpu), whole);
    checkClose(await interrupted(webgpu, cpu), whole);
  },
);
