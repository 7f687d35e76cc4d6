// Training on WebGPU: the CPU's course within rounding, its own bit for bit, resumed and across devices.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { latestCheckpoint } from "../../lib/train/checkpoint.ts";
import type { RunConfig } from "../../lib/train/config.ts";
import { pretrain } from "../../lib/train/pretrain.ts";
import { chooseStart } from "../../lib/train/run_folder.ts";
import { openWebgpu, webgpuTest } from "../backend/webgpu_adapter.ts";
import { congruentialSamples, openCpu, SMALL_RUN, train } from "./training_setup.ts";

/** Relative difference of a step's loss and norm between devices; both round in f32, in different orders. */
const STEP_TOLERANCE = 1e-4;

interface Course {
  readonly loss: number | null;
  readonly gradNorm: number | null;
}

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

/** Trains from where the run folder is until step `stopAfter`; the losses and norms of the steps made. */
async function attempt(
  backend: Backend,
  config: RunConfig,
  stopAfter: number,
  resume: boolean,
): Promise<Course[]> {
  const stop = new AbortController();
  const course: Course[] = [];
  const samples = congruentialSamples(64, 16);
  await pretrain({
    run: { config, yaml: `# ${config.name}\n` },
    backend,
    data: {
      samples: { ...samples, describe: (index) => `rule ${index}` },
      heldOut: [],
    },
    saveTokenizer: () => Promise.resolve(),
    start: chooseStart(config.output, { resume, force: false }),
    signal: stop.signal,
    hooks: {
      onStep: ({ step, loss, grad_norm: gradNorm }) => {
        course.push({ loss, gradNorm });
        if (step === stopAfter) stop.abort();
      },
    },
  });
  return course;
}

/** The course of a run that `first` begins and `second` resumes after step 4. */
async function interrupted(first: Backend, second: Backend): Promise<Course[]> {
  const output = Deno.makeTempDirSync();
  try {
    const config = { ...SMALL_RUN, output };
    const before = await attempt(first, config, 4, false);
    assert.equal(latestCheckpoint(output)?.step, 4);
    return [...before, ...await attempt(second, config, 8, true)];
  } finally {
    Deno.removeSync(output, { recursive: true });
  }
}

webgpuTest(
  "interrupted and resumed: bit for bit, and from the CPU's checkpoint and back",
  async () => {
    using cpu = await openCpu(1);
    using webgpu = await openWebgpu();
    using later = await openWebgpu();
    const whole = (await train(webgpu, SMALL_RUN, 8)).map(({ loss, gradNorm }) => ({
      loss,
      gradNorm,
    }));
    assert.deepEqual(await interrupted(webgpu, later), whole);
    checkClose(await interrupted(cpu, webgpu), whole);
    checkClose(await interrupted(webgpu, cpu), whole);
  },
);
