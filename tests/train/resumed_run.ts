// A run that one device begins and another resumes from its checkpoint.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { latestCheckpoint } from "../../lib/train/checkpoint.ts";
import type { RunConfig } from "../../lib/train/config.ts";
import { pretrain } from "../../lib/train/pretrain.ts";
import { chooseStart } from "../../lib/train/run_folder.ts";
import type { StepResult } from "../../lib/train/trainer.ts";
import { inTempFolder } from "../temp_folder.ts";
import { congruentialSamples, SMALL_RUN } from "./training_setup.ts";

const BREAK = 4;

/** What is compared of a step. */
export interface Course {
  readonly loss: number | null;
  readonly gradNorm: number | null;
}

/** Of the results of steps, what is compared. */
export function courseOf(results: readonly StepResult[]): Course[] {
  return results.map(({ loss, gradNorm }) => ({ loss, gradNorm }));
}

/** Trains from where the run folder is until step `stopAfter`; the course of the steps made. */
async function attempt(
  backend: Backend,
  config: RunConfig,
  stopAfter: number,
  resume: boolean,
): Promise<Course[]> {
  const stop = new AbortController(), found: Course[] = [];
  const samples = congruentialSamples(config.model.vocabSize, config.data.sequenceLength);
  await pretrain({
    run: { config, yaml: `# ${config.name}\n` },
    backend,
    data: {
      samples: { ...samples, describe: (index) => `rule ${index}` },
      heldOut: [],
      fingerprint: "rule",
    },
    saveTokenizer: () => Promise.resolve(),
    start: chooseStart(config.output, { resume, force: false }),
    signal: stop.signal,
    hooks: {
      onStep: ({ step, loss, grad_norm: gradNorm }) => {
        found.push({ loss, gradNorm });
        if (step === stopAfter) stop.abort();
      },
    },
  });
  return found;
}

/** The course of SMALL_RUN when `first` makes its first half and `second` goes on. */
export function interrupted(first: Backend, second: Backend): Promise<Course[]> {
  return inTempFolder(async (output) => {
    // An asynchronous device has the next step enqueued when one is reported; before a checkpoint it waits.
    const checkpoint = { ...SMALL_RUN.checkpoint, everySteps: BREAK };
    const config = { ...SMALL_RUN, output, checkpoint };
    const before = await attempt(first, config, BREAK, false);
    assert.equal(latestCheckpoint(output)?.step, BREAK);
    return [...before, ...await attempt(second, config, SMALL_RUN.schedule.totalSteps, true)];
  });
}
