// deno-lint-ignore-file no-console
// `tinyllama demo`: everything once, in about two minutes, on the text that is there: this program's own documents and
// sources. Prepare, pretrain, generate. The model learns visibly; it does not become useful.

import { join, relative } from "node:path";
import { Command } from "commander";
import { openBackend } from "../backend/open.ts";
import { UsageError } from "../core/errors.ts";
import { llamaTokenizer } from "../tokenizer/tokenizer.ts";
import { type LoadedConfig, loadRunConfig, type RunConfig } from "../train/config.ts";
import { Trainer } from "../train/trainer.ts";
import { parseOverride } from "../train/yaml_file.ts";
import { runPretraining } from "./pretrain.ts";

const PROSE = /(\.md|^LICENSE)$/;
const CODE = /\.(ts|c|h|wgsl|cu)$/;
const SKIPPED = /^(\..*|runs|data|dist|golden|node_modules)$/;

const TRAINING_SECONDS = 100;
const MIN_STEPS = 40;

/** The subcommand. */
export function demoCommand(): Command {
  return new Command("demo")
    .description("Prepare this program's own text, pretrain a small model on it, generate")
    .option("--seconds <count>", "time to train", String(TRAINING_SECONDS))
    .option("--threads <count>", "CPU threads to use (all)")
    .action(async ({ seconds, threads }: { seconds: string; threads?: string }) => {
      const budget = Number(seconds);
      if (!(budget > 0)) throw new UsageError(`Cannot train for "${seconds}" seconds`);
      const overrides = threads === undefined
        ? []
        : [parseOverride(`threads=${threads}`, `--threads ${threads}`)];
      await prepareDemoData("data/demo");
      const full = loadRunConfig("demo", overrides);
      const steps = await affordableSteps(full.config, budget);
      const run = loadRunConfig("demo", [...overrides, parseOverride(`horizon.steps=${steps}`)]);
      await runPretraining(run, { resume: false, force: true }, false);
    });
}

/** Paths of this program's text files, by kind. */
function ownText(root: string): { readonly prose: string[]; readonly code: string[] } {
  const found: { prose: string[]; code: string[] } = { prose: [], code: [] };
  const visit = (folder: string) => {
    const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
    for (const { name, isDirectory } of entries) {
      if (SKIPPED.test(name)) continue;
      const path = join(folder, name);
      if (isDirectory) visit(path);
      else if (PROSE.test(name)) found.prose.push(path);
      else if (CODE.test(name)) found.code.push(path);
    }
  };
  visit(root);
  return found;
}

/** How many steps fit into `seconds`, at most as many as configured: measured on steps of the very run. */
async function affordableSteps(config: RunConfig, seconds: number): Promise<number> {
  const { device, threads, precision: matmul, data, model } = config;
  using backend = await openBackend({ device, threads, matmul });
  using trainer = new Trainer(backend, config, data.sequenceLength);
  trainer.initialize(config.seed);
  const samples = {
    batch(_first: number, _count: number, inputs: Int32Array, targets: Int32Array) {
      for (let i = 0; i < inputs.length; i++) {
        inputs[i] = i * 7919 % model.vocabSize;
        targets[i] = i * 104729 % model.vocabSize;
      }
    },
  };
  await trainer.step(1, samples);
  const startMs = performance.now();
  for (let step = 2; step <= 3; step++) await trainer.step(step, samples);
  const stepSeconds = (performance.now() - startMs) / 2000;
  const affordable = Math.floor(seconds / stepSeconds);
  return Math.min(config.schedule.totalSteps, Math.max(MIN_STEPS, affordable));
}
