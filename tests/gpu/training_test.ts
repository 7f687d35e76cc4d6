// Training on CUDA against the CPU: fifty steps in bf16, and one checkpoint taken over from device to device.

import assert from "node:assert/strict";
import type { RunConfig } from "../../lib/train/config.ts";
import { openWebgpu, webgpuMissing } from "../backend/webgpu_adapter.ts";
import { courseOf, interrupted } from "../train/resumed_run.ts";
import { openCpu, SMALL_RUN, train } from "../train/training_setup.ts";
import { cuda, onCuda } from "./on_cuda.ts";

const STEPS = 50;
/**
 * bf16 has 8 bits: a loss, the mean over a batch of what such weights and activations give, may be off by a few times
 * 2^-8 once the courses have drifted apart for fifty steps.
 */
const BF16_TOLERANCE = 0.02;
/** f32 in another order of additions. */
const F32_TOLERANCE = 1e-4;

const COURSE: RunConfig = {
  ...SMALL_RUN,
  schedule: { lr: 3e-3, minLr: 3e-4, warmupSteps: 5, totalSteps: STEPS },
};

/** Heads of 64 on sequences of four tiles, for tensor cores: seconds on a card, too long for the simulator. */
const TILED_COURSE: RunConfig = {
  ...COURSE,
  model: {
    ...SMALL_RUN.model,
    ...{ vocabSize: 512, hiddenSize: 256, intermediateSize: 704, numLayers: 4 },
    ...{ numHeads: 4, numKvHeads: 2, headDim: 64, maxSeqLen: 256 },
  },
  data: { ...SMALL_RUN.data, sequenceLength: 256 },
  batchTokens: 1024,
  schedule: { lr: 3e-4, minLr: 3e-5, warmupSteps: 5, totalSteps: STEPS },
};

onCuda("fifty steps in bf16 take the course of the CPU in f32", async () => {
  for (const course of cuda.isSimulated ? [COURSE] : [COURSE, TILED_COURSE]) {
    using device = cuda.open("bf16", 0);
    using cpu = await openCpu(Math.min(8, navigator.hardwareConcurrency));
    const expected = await train(cpu, course, STEPS), found = await train(device, course, STEPS);
    assert.ok(expected[STEPS - 1].loss < 0.9 * expected[0].loss, "the CPU made no progress");
    found.forEach(({ loss }, i) => {
      const error = Math.abs(loss / expected[i].loss - 1);
      assert.ok(error <= BF16_TOLERANCE, `step ${i + 1}: loss ${loss}, CPU ${expected[i].loss}`);
    });
  }
});

onCuda("a checkpoint goes from device to device, and on the same one bit for bit", async () => {
  using device = cuda.open("f32", 0);
  using later = cuda.open("f32", 1);
  const whole = courseOf(await train(device, SMALL_RUN, 8));
  assert.deepEqual(await interrupted(device, later), whole);
  using others = new DisposableStack();
  const elsewhere = [others.use(await openCpu(1))];
  if (webgpuMissing === null) elsewhere.push(others.use(await openWebgpu()));
  for (const [first, second] of elsewhere.flatMap((one) => [[one, device], [device, one]])) {
    const found = await interrupted(first, second);
    found.forEach(({ loss }, i) => {
      const error = Math.abs(Number(loss) / Number(whole[i].loss) - 1);
      assert.ok(error <= F32_TOLERANCE, `step ${i + 1}: loss ${loss}, unbroken ${whole[i].loss}`);
    });
  }
});

onCuda("a run in bf16 resumes bit for bit, master weights and all", async () => {
  using device = cuda.open("bf16", 0);
  using later = cuda.open("bf16", 1);
  const whole = courseOf(await train(device, SMALL_RUN, 8));
  assert.deepEqual(await interrupted(device, later), whole);
});
