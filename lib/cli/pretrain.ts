// deno-lint-ignore-file no-console
// `tinyllama pretrain`: one YAML file in, a run folder out. Wires configuration, run (lib/train/train.ts) and screen
// together.

import { join } from "node:path";
import { Command, Option } from "commander";
import { footprintOf } from "../backend/footprint.ts";
import { DEVICE_NAMES, kindOfDevice } from "../backend/open.ts";
import type { Allocation } from "../core/backend.ts";
import { type LoadedConfig, loadRunConfig, type RunConfig } from "../train/config.ts";
import type { StepMetrics, ValidationMetrics } from "../train/metrics.ts";
import { planRun, type RunPlan } from "../train/plan.ts";
import type { PretrainHooks, PretrainOutcome } from "../train/pretrain.ts";
import { train } from "../train/train.ts";
import { type Override, parseOverride } from "../train/yaml_file.ts";
import { inGroups } from "./data_table.ts";
import { collect } from "./flags.ts";
import { openProgress, type Progress } from "./progress.ts";
import { listenForSignals } from "./signals.ts";

/** Exit code of a run that was interrupted and can be resumed (EX_TEMPFAIL). */
export const EXIT_UNFINISHED = 75;

interface Flags {
  readonly config: string;
  readonly set?: readonly string[];
  readonly threads?: string;
  readonly device?: string;
  readonly precision?: string;
  readonly resume?: true;
  readonly force?: true;
  readonly dryRun?: true;
  readonly json?: true;
}

const EXAMPLES = `
Examples:
  tinyllama pretrain --config configs/train/demo.yaml
  tinyllama pretrain --config configs/train/demo.yaml --set optimizer.lr=1e-3 --threads 2
  tinyllama pretrain --config runs/demo/config.yaml --resume
  tinyllama pretrain --config configs/train/tinyllama-1.1b.yaml --dry-run

Exit codes: 0 finished, 75 interrupted (go on with --resume), 1 failed, 2 wrong usage.`;

/** The subcommand. */
export function pretrainCommand(): Command {
  return new Command("pretrain")
    .description("Train a model from nothing on prepared data")
    .requiredOption("--config <file>", "the run: a YAML file, or the name of one in configs/train")
    .option("--set <key=value>", "override a key; may be repeated", collect)
    .option("--threads <count>", "same as --set threads=<count>")
    .option("--device <name>", `same as --set device=<name>: ${DEVICE_NAMES.join(", ")}`)
    .option("--precision <name>", "same as --set precision=<name>: f32, bf16, auto")
    .option("--resume", "go on from the latest checkpoint in the run folder, if there is one")
    .addOption(new Option("--force", "delete the run in the run folder first").conflicts("resume"))
    .option("--dry-run", "show what would be done and how much it takes; starts nothing")
    .option("--json", "JSON lines on stdout instead of text")
    .addHelpText("after", EXAMPLES)
    .action(async (flags: Flags) => {
      const run = loadRunConfig(flags.config, overridesOf(flags));
      if (flags.dryRun) await printPlan(run, flags.json === true);
      else await start(run, flags);
    });
}

function overridesOf(flags: Flags): Override[] {
  const overrides = (flags.set ?? []).map((text) => parseOverride(text));
  for (const key of ["threads", "device", "precision"] as const) {
    const value = flags[key];
    if (value !== undefined) overrides.push(parseOverride(`${key}=${value}`, `--${key} ${value}`));
  }
  return overrides;
}

async function start(run: LoadedConfig, flags: Flags): Promise<void> {
  const isJson = flags.json === true;
  const choice = { resume: flags.resume === true, force: flags.force === true };
  const outcome = await runPretraining(run, choice, isJson);
  const { output } = run.config;
  if (isJson) console.log(JSON.stringify({ finished: outcome.isFinished, step: outcome.step }));
  else if (outcome.isFinished) console.log(`Finished. Try: tinyllama generate --model ${output}`);
  else console.log(stoppedText(outcome.step, output));
  if (!outcome.isFinished) Deno.exitCode = EXIT_UNFINISHED;
}

/** What a run that was interrupted says at its end. */
export function stoppedText(step: number, output: string): string {
  const config = join(output, "config.yaml");
  return `Stopped after step ${step}. Continue with: tinyllama pretrain --config ${config} --resume`;
}

/**
 * Opens device and data, and trains with the screen attached; SIGINT and SIGTERM end the run after the step in progress,
 * with a checkpoint.
 */
export async function runPretraining(
  run: LoadedConfig,
  choice: { readonly resume: boolean; readonly force: boolean },
  isJson: boolean,
): Promise<PretrainOutcome> {
  using progress = openProgress();
  using stop = stopOnSignals(() =>
    progress.line("stopping after this step; again to stop at once")
  );
  return await train(run, {
    ...choice,
    signal: stop.signal,
    onOpen: (device, plan) => {
      if (!isJson) console.log(startText(run, plan, device));
    },
    hooks: isJson ? jsonHooks() : screenHooks(run.config, progress, choice.resume),
  });
}

/** A signal that aborts at the first SIGINT or SIGTERM; the second ends the process. Listens until disposed. */
function stopOnSignals(onFirst: () => void): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const listening = listenForSignals(() => {
    if (controller.signal.aborted) Deno.exit(EXIT_UNFINISHED);
    controller.abort();
    onFirst();
  });
  return { signal: controller.signal, [Symbol.dispose]: () => listening[Symbol.dispose]() };
}

function jsonHooks(): PretrainHooks {
  const print = (value: unknown) => console.log(JSON.stringify(value));
  return {
    onStep: print,
    onValidation: print,
    onCheckpoint: ({ step, folder }) => print({ step, checkpoint: folder }),
  };
}

function screenHooks(config: RunConfig, progress: Progress, resumes: boolean): PretrainHooks {
  return {
    onStart: ({ step, allocations }) => {
      progress.line(memoryText(allocations));
      if (step > 0) progress.line(`resumed after step ${step}`);
      else if (resumes) progress.line(`nothing to resume in ${config.output}: the run begins`);
    },
    onStep: (metrics) => {
      progress.update(metrics.step, config.schedule.totalSteps, stepText(metrics));
      if (metrics.loss === null || metrics.grad_norm === null) {
        progress.line(`step ${metrics.step}: loss or gradient is not finite; step skipped`);
      }
    },
    onValidation: (metrics) => progress.line(validationText(metrics)),
    onCheckpoint: ({ step, folder }) => progress.line(`step ${step}: saved ${folder}`),
  };
}

function stepText(metrics: StepMetrics): string {
  const loss = metrics.loss?.toFixed(4) ?? "not finite";
  const norm = metrics.grad_norm?.toFixed(2) ?? "not finite";
  return `loss ${loss}  norm ${norm}  lr ${metrics.lr.toExponential(2)}  ` +
    `${inGroups(metrics.tokens_per_second)} tokens/s  ${
      inGroups(metrics.gflops_per_second)
    } GFLOP/s`;
}

function validationText({ step, loss }: ValidationMetrics): string {
  const parts = Object.entries(loss).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  return `step ${step}: validation loss  ${parts.join("  ")}`;
}

function inBytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function memoryText(allocations: readonly Allocation[]): string {
  const total = { label: "total", byteLength: allocations.reduce((s, a) => s + a.byteLength, 0) };
  const lines = [...allocations.filter((a) => a.byteLength > 0), total]
    .map(({ label, byteLength }) => `  ${label.padEnd(32)} ${inBytes(byteLength).padStart(11)}`);
  return ["memory", ...lines].join("\n");
}

function sizeText(plan: RunPlan, config: RunConfig): string {
  const { schedule, microBatchSize, microSteps, data } = config;
  const microBatches = `${microSteps} micro-batch${microSteps === 1 ? "" : "es"}`;
  return [
    `  parameters       ${inGroups(plan.parameters)}`,
    `  steps            ${inGroups(plan.steps)} (warmup ${inGroups(schedule.warmupSteps)})`,
    `  tokens           ${inGroups(plan.tokens)}`,
    `  batch            ${inGroups(config.batchTokens)} tokens = ${microBatches} of ` +
    `${microBatchSize} x ${data.sequenceLength}`,
    `  FLOPs per token  ${inGroups(plan.flopsPerToken)}`,
    `  FLOPs in all     ${plan.totalFlops.toExponential(3)}`,
  ].join("\n");
}

function startText({ config, yaml }: LoadedConfig, plan: RunPlan, device: string): string {
  return `${yaml}\nrun ${config.name} on ${device}\n${sizeText(plan, config)}`;
}

async function printPlan({ config, yaml }: LoadedConfig, isJson: boolean): Promise<void> {
  const { device, precision: matmul } = config;
  const kind = await kindOfDevice({ device, matmul });
  const plan = planRun(config, footprintOf(kind, matmul));
  if (isJson) return console.log(JSON.stringify({ config, plan }, null, 2));
  const chosen = device === "auto" ? ", which auto takes on this machine" : "";
  const note = `memory is for ${device === "auto" ? kind : device} with activations in ` +
    `${plan.precision}${chosen}; nothing was started`;
  console.log(`${yaml}\nrun ${config.name}\n${sizeText(plan, config)}`);
  console.log(`${memoryText(plan.memory)}\n${note}`);
}
