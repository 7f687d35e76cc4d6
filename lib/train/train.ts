// A run from its configuration alone: opens the device and the data that it names, and trains.

import { footprintOf } from "../backend/footprint.ts";
import { kindOfDevice, openBackend } from "../backend/open.ts";
import { clearRun } from "./checkpoint.ts";
import type { LoadedConfig } from "./config.ts";
import { planRun, type RunPlan } from "./plan.ts";
import { pretrain, type PretrainHooks, type PretrainOutcome } from "./pretrain.ts";
import { openRunData } from "./run_data.ts";
import { chooseStart } from "./run_folder.ts";

/** How a run begins, and who listens to it. */
export interface TrainOptions {
  /** Go on from the latest checkpoint in the run folder, if there is one. Default false. */
  readonly resume?: boolean;
  /** Delete an earlier run in the run folder, once device and data are open. Default false. */
  readonly force?: boolean;
  /** Aborting ends the run after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Once the device is open: its name, and what the run will take. */
  readonly onOpen?: (device: string, plan: RunPlan) => void;
  readonly hooks?: PretrainHooks;
}

/**
 * Trains until the horizon or until `signal` aborts; the run folder then holds a checkpoint of the last step.
 *
 * ```ts
 * const run = loadRunConfig("demo", [parseOverride("horizon.steps=100")]);
 * await train(run, { hooks: { onStep: ({ step, loss }) => console.log(step, loss) } });
 * ```
 * @throws {UsageError} when the run folder holds a run and neither `resume` nor `force` is asked for, or both are.
 * @throws {FormatError} when the data is not there or damaged.
 */
export async function train(
  run: LoadedConfig,
  options: TrainOptions = {},
): Promise<PretrainOutcome> {
  const { config } = run;
  const start = chooseStart(config.output, {
    resume: options.resume ?? false,
    force: options.force ?? false,
  });
  using runData = await openRunData(config);
  const { data, saveTokenizer } = runData;
  const choice = { device: config.device, matmul: config.precision };
  const plan = planRun(config, footprintOf(await kindOfDevice(choice), config.precision));
  using backend = await openBackend({
    ...choice,
    threads: config.threads,
    memoryBytes: plan.memory.reduce((sum, line) => sum + line.byteLength, 0),
  });
  // Only now that nothing else can be missing.
  if (options.force) clearRun(config.output);
  options.onOpen?.(backend.info.name, plan);
  const { signal, hooks } = options;
  return await pretrain({ run, backend, data, saveTokenizer, start, signal, hooks });
}
