// The loop over steps: train, measure, validate, save, stop. It prints nothing; a command passes hooks.

import { setTimeout } from "node:timers/promises";
import { join } from "node:path";
import type { Allocation, Backend } from "../core/backend.ts";
import { TinyllamaError } from "../core/errors.ts";
import { trainingFlopsPerToken } from "../model/flops.ts";
import {
  type Checkpoint,
  pruneCheckpoints,
  verifyCheckpoint,
  writeCheckpoint,
} from "./checkpoint.ts";
import type { LoadedConfig, RunConfig } from "./config.ts";
import { MetricsLog, type StepMetrics, type ValidationMetrics } from "./metrics.ts";
import { courseOf, readTrainerState, type RunProgress, writeTrainerState } from "./run_folder.ts";
import { learningRate } from "./schedule.ts";
import { loadSnapshot, saveSnapshot } from "./snapshot.ts";
import { type StepResult, Trainer, type TrainingSamples } from "./trainer.ts";
import { type HeldOutSource, validate } from "./validation.ts";

/** The data of a run. */
export interface PretrainData {
  readonly samples: TrainingSamples & {
    /** Where a sample comes from, for people: source, epoch, file, block. */
    describe(globalIndex: number): string;
  };
  /** Sources without held-out text are left out; without any the run is not validated. */
  readonly heldOut: readonly HeldOutSource[];
  /** Equal for the same samples under the same indices; a run is resumed only with the data it was begun with. */
  readonly fingerprint: string;
}

/** Writes the files by which others load the tokenizer of the run into a folder. */
export type SaveTokenizer = (folder: string) => Promise<void>;

/** What a run tells while it goes on. */
export interface PretrainHooks {
  /** Before the first step, once everything is allocated. `step` is the last step done before. */
  readonly onStart?: (start: { step: number; allocations: readonly Allocation[] }) => void;
  readonly onStep?: (metrics: StepMetrics) => void;
  readonly onValidation?: (metrics: ValidationMetrics) => void;
  readonly onCheckpoint?: (checkpoint: Checkpoint) => void;
}

export interface PretrainOptions {
  readonly run: LoadedConfig;
  readonly backend: Backend;
  readonly data: PretrainData;
  readonly saveTokenizer: SaveTokenizer;
  /** Where to continue; null begins. */
  readonly start: Checkpoint | null;
  /** Aborting ends the run after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
  readonly hooks?: PretrainHooks;
}

/** How a run ended. */
export interface PretrainOutcome {
  readonly step: number;
  readonly isFinished: boolean;
  /** The last one written. */
  readonly checkpoint: Checkpoint | null;
}

/**
 * Trains until the horizon or until `signal` aborts; the run folder then holds a checkpoint of the last step.
 * @throws {TinyllamaError} after too many consecutive steps with non-finite loss or gradient, naming the samples.
 */
export async function pretrain(options: PretrainOptions): Promise<PretrainOutcome> {
  const { config, yaml } = options.run;
  using trainer = new Trainer(options.backend, config, config.data.sequenceLength);
  const progress = await prepare(options, trainer);
  Deno.mkdirSync(config.output, { recursive: true });
  Deno.writeTextFileSync(join(config.output, "config.yaml"), yaml);
  return await new Run(options, trainer, progress).toTheEnd();
}

/** Fills the trainer with initial or saved state. */
async function prepare(options: PretrainOptions, trainer: Trainer): Promise<RunProgress> {
  const { start, run, data } = options;
  if (start === null) {
    trainer.initialize(run.config.seed);
    return { step: 0, skippedSteps: 0, consecutiveSkippedSteps: 0 };
  }
  const progress = readTrainerState(start.folder, courseOf(run.config, data.fingerprint));
  verifyCheckpoint(start.folder);
  await loadSnapshot(options.backend, trainer, start.folder);
  return progress;
}

interface PendingStep {
  readonly step: number;
  readonly result: Promise<StepResult>;
}

/** One run in progress: the counters that change from step to step. */
class Run {
  readonly #options: PretrainOptions;
  readonly #config: RunConfig;
  readonly #trainer: Trainer;
  readonly #log: MetricsLog;
  readonly #startMs = performance.now();
  readonly #flopsPerToken: number;
  #progress: RunProgress;
  #checkpoint: Checkpoint | null;
  /** When the time of the step in progress began to count. */
  #lastMs = performance.now();
  /** Never rejects; until it resolves the device may still work on the last step enqueued. */
  #idle: Promise<unknown> = Promise.resolve();

  constructor(options: PretrainOptions, trainer: Trainer, progress: RunProgress) {
    this.#options = options;
    this.#config = options.run.config;
    this.#trainer = trainer;
    this.#progress = progress;
    this.#checkpoint = options.start;
    this.#log = new MetricsLog(this.#config.output, progress.step);
    const { model, data } = this.#config;
    this.#flopsPerToken = trainingFlopsPerToken(model, data.sequenceLength);
  }

  /** Ends, be it with an error, when the device has nothing under way: only then may memory be freed. */
  async toTheEnd(): Promise<PretrainOutcome> {
    try {
      return await this.#allSteps();
    } finally {
      await this.#idle;
    }
  }

  async #allSteps(): Promise<PretrainOutcome> {
    const { backend, hooks, signal } = this.#options;
    const { totalSteps } = this.#config.schedule;
    const first = this.#progress.step + 1;
    hooks?.onStart?.({ step: first - 1, allocations: backend.allocations() });
    if (first === 1) await this.#validate();
    this.#lastMs = performance.now();
    let pending: PendingStep | null = null;
    for (let step = first; step <= totalSteps && !signal?.aborted; step++) {
      const current = this.#begin(step);
      if (pending !== null) await this.#record(pending);
      pending = current;
      // Signals are looked for only when the event loop has nothing to do, which a device that blocks never lets happen.
      await setTimeout(0);
      if (backend.info.isAsynchronous && !this.#pausesAfter(step)) continue;
      await this.#record(pending);
      pending = null;
      await this.#pauseAfter(step);
    }
    if (pending !== null) await this.#record(pending);
    if (this.#checkpoint?.step !== this.#progress.step && this.#progress.step > 0) {
      await this.#save();
    }
    const { step } = this.#progress;
    return { step, isFinished: step >= totalSteps, checkpoint: this.#checkpoint };
  }

  /** Enqueues a step. Its failure is thrown where its result is awaited, which may be a step later. */
  #begin(step: number): PendingStep {
    const result = this.#trainer.step(step, this.#options.data.samples);
    this.#idle = result.catch(() => {});
    return { step, result };
  }

  #isValidatedAfter(step: number): boolean {
    const { evaluation, schedule } = this.#config;
    return step % evaluation.everySteps === 0 || step === schedule.totalSteps;
  }

  #isSavedAfter(step: number): boolean {
    const { checkpoint, schedule } = this.#config;
    return step % checkpoint.everySteps === 0 || step === schedule.totalSteps;
  }

  #pausesAfter(step: number): boolean {
    return this.#isValidatedAfter(step) || this.#isSavedAfter(step) ||
      this.#options.signal?.aborted === true;
  }

  async #pauseAfter(step: number): Promise<void> {
    if (this.#isValidatedAfter(step)) await this.#validate();
    if (this.#isSavedAfter(step)) await this.#save();
    if (this.#pausesAfter(step)) this.#lastMs = performance.now();
  }

  async #record({ step, result }: PendingStep): Promise<void> {
    const { loss, gradNorm, isSkipped } = await result;
    const now = performance.now();
    const tokensPerSecond = this.#config.batchTokens / ((now - this.#lastMs) / 1000);
    this.#lastMs = now;
    this.#progress = {
      step,
      skippedSteps: this.#progress.skippedSteps + (isSkipped ? 1 : 0),
      consecutiveSkippedSteps: isSkipped ? this.#progress.consecutiveSkippedSteps + 1 : 0,
    };
    const metrics: StepMetrics = {
      step,
      tokens: step * this.#config.batchTokens,
      loss: Number.isFinite(loss) ? loss : null,
      lr: learningRate(this.#config.schedule, step),
      grad_norm: Number.isFinite(gradNorm) ? gradNorm : null,
      tokens_per_second: rounded(tokensPerSecond),
      gflops_per_second: rounded(tokensPerSecond * this.#flopsPerToken / 1e9),
      memory_bytes: this.#options.backend.allocatedBytes,
      skipped: this.#progress.skippedSteps,
      elapsed_seconds: rounded((now - this.#startMs) / 1000),
    };
    this.#log.step(metrics);
    this.#options.hooks?.onStep?.(metrics);
    if (this.#progress.consecutiveSkippedSteps > this.#config.maxSkippedSteps) {
      this.#stopAsNotFinite(loss, gradNorm);
    }
  }

  #stopAsNotFinite(loss: number, gradNorm: number): never {
    const { step, consecutiveSkippedSteps } = this.#progress;
    const { batchSize } = this.#trainer;
    const first = (step - 1) * batchSize;
    const ids = Array.from(
      { length: batchSize },
      (_, i) => `  sample ${first + i}: ${this.#options.data.samples.describe(first + i)}`,
    );
    throw new TinyllamaError(
      `Cannot go on training: loss or gradient was not finite in ${consecutiveSkippedSteps} ` +
        `steps in a row, the last of them step ${step} with loss ${loss} and gradient norm ` +
        `${gradNorm}; at most ${this.#config.maxSkippedSteps} are allowed. Its samples:\n` +
        ids.join("\n"),
    );
  }

  async #validate(): Promise<void> {
    const { heldOut } = this.#options.data;
    if (heldOut.length === 0) return;
    const losses = await validate(this.#trainer, heldOut, this.#config);
    const { step } = this.#progress;
    const metrics = { step, tokens: step * this.#config.batchTokens, ...losses };
    this.#log.validation(metrics);
    this.#options.hooks?.onValidation?.(metrics);
  }

  async #save(): Promise<void> {
    const { backend, data, saveTokenizer, hooks } = this.#options;
    const { output, checkpoint } = this.#config;
    const { step } = this.#progress;
    this.#checkpoint = await writeCheckpoint(output, step, async (folder) => {
      await saveSnapshot(backend, this.#trainer, folder);
      await saveTokenizer(folder);
      writeTrainerState(folder, this.#progress, courseOf(this.#config, data.fingerprint));
    });
    pruneCheckpoints(output, checkpoint.keepLast, checkpoint.keepEvery);
    hooks?.onCheckpoint?.(this.#checkpoint);
  }
}

/** Six digits are more than a measurement has. */
function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
