// A run that one device begins and another resumes from its checkpoint.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { latestCheckpoint } from "../../lib/train/checkpoint.ts";
import type { RunConfig } from "../../lib/train/config.ts";
import { pretrain } from "../../lib/train/pretrain.ts";
import { chooseStart } from "../../lib/train/run_folder.ts";
import type { StepResult } from "../../lib/train/trainer.ts";
import { congruentialSamples, SMALL_RUN } from "./training_setup.ts";

const BREAK = 4;

/** The losses alone. */
export function losses(results: readonly StepResult[]): number[] {
  return results.map(({ loss }) => loss);
}

/** Trains from where the run folder is until step `stopAfter`; the losses of the steps made. */
async function attempt(
  backend: Backend,
  config: RunConfig,
  stopAfter: number,
  resume: boolean,
): Promise<number[]> {
  const stop = new AbortController(), found: number[] = [];
  const samples = congruentialSamples(config.model.vocabSize, config.data.sequenceLength);
  await pretrain({
    run: { config, yaml: `# ${config.name}\n` },
    backend,
    data: { samples: { ...samples, describe: (index) => `rule ${index}` }, heldOut: [] },
    saveTokenizer: () => Promise.resolve(),
    start: chooseStart(config.output, { resume, force: false }),
    signal: stop.signal,
    hooks: {
      onStep: ({ step, loss }) => {
        found.push(loss ?? NaN);
        if (step === stopAfter) stop.abort();
      },
    },
  });
  return found;
}

/** The losses of SMALL_RUN when `first` makes its first half and `second` goes on. */
export async function interrupted(first: Backend, second: Backend): Promise<number[]> {
  const output = Deno.makeTempDirSync();
  try {
    // An asynchronous device has the next step enqueued when one is reported: saving after each keeps them in step.
    const checkpoint = { ...SMALL_RUN.checkpoint, everySteps: BREAK };
    const config = { ...SMALL_RUN, output, checkpoint };
    const before = await attempt(first, config, BREAK, false);
    const saved = latestCheckpoint(output)?.step ?? 0;
    assert.ok(saved >= BREAK, `a checkpoint of step ${saved}`);
    const after = await attempt(second, config, SMALL_RUN.schedule.totalSteps, true);
    return [...before.slice(0, saved), ...after];
  } finally {
    Deno.removeSync(output, { recursive: true });
  }
}
