// deno-lint-ignore-file no-console
// `tinyllama demo`: everything once, in about two minutes, on the text that is there: this program's own documents and
// sources. Prepare, pretrain, generate. The model learns visibly; it does not become useful.

import { join } from "node:path";
import { Command } from "commander";
import { openBackend } from "../backend/open.ts";
import { UsageError } from "../core/errors.ts";
import { DEFAULT_CHUNK_TOKENS, prepare } from "../data/prepare.ts";
import { complete } from "../generate/generate.ts";
import { openLanguageModel } from "../generate/language_model.ts";
import { llamaTokenizer } from "../tokenizer/tokenizer.ts";
import { loadRunConfig, type RunConfig } from "../train/config.ts";
import { Trainer } from "../train/trainer.ts";
import { parseOverride } from "../train/yaml_file.ts";
import { checkDemoFolders, markDemoData } from "./demo_folders.ts";
import { writeDemoText } from "./demo_text.ts";
import { numberFlag } from "./flags.ts";
import { resolveModelFolder } from "./model_folder.ts";
import { tableText } from "./data_table.ts";
import { EXIT_UNFINISHED, runPretraining, stoppedText } from "./pretrain.ts";

/** Larger than usual: there is little text, and a validation loss should not hang on a few lines. */
const VALIDATION_SHARE = 0.1;

const TRAINING_SECONDS = 100;
const MIN_STEPS = 40;

const PROMPTS = ["The model", "export function"];
const SHOWN_TOKENS = 80;
const SHOWN_TEMPERATURE = 0.7;

const EXAMPLES = `
Examples:
  tinyllama demo
  tinyllama demo --seconds 30 --threads 2`;

/** The subcommand. */
export function demoCommand(): Command {
  return new Command("demo")
    .description("Prepare this program's own text, pretrain a small model on it, generate")
    .option("--seconds <count>", "time to train", String(TRAINING_SECONDS))
    .option("--threads <count>", "CPU threads (default: all)")
    .addHelpText("after", EXAMPLES)
    .action(async ({ seconds, threads }: { seconds: string; threads?: string }) => {
      const budget = numberFlag("--seconds", seconds);
      if (budget <= 0) throw new UsageError(`Cannot train for ${seconds} seconds`);
      const overrides = threads === undefined
        ? []
        : [parseOverride(`threads=${threads}`, `--threads ${threads}`)];
      const full = loadRunConfig("demo", overrides);
      checkDemoFolders(full);
      await prepareDemoData(full.config.data.path);
      const steps = await affordableSteps(full.config, budget);
      const run = loadRunConfig("demo", [...overrides, parseOverride(`horizon.steps=${steps}`)]);
      const { isFinished, step } = await runPretraining(run, { resume: false, force: true }, false);
      if (isFinished) return await showTexts(run.config);
      console.log(stoppedText(step, run.config.output));
      Deno.exitCode = EXIT_UNFINISHED;
    });
}

/** Prepares this program's own text as the sources prose and code. */
async function prepareDemoData(output: string): Promise<void> {
  const root = join(import.meta.dirname ?? ".", "..", "..");
  const folder = Deno.makeTempDirSync();
  try {
    const { manifest } = await prepare({
      paths: await writeDemoText(root, folder),
      output,
      force: true,
      tokenizer: await llamaTokenizer(),
      tokenizerName: "llama",
      chunkTokens: DEFAULT_CHUNK_TOKENS,
      validationShare: VALIDATION_SHARE,
    });
    markDemoData(output);
    console.log(tableText(manifest));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Prints what the trained model makes of a prompt for each of its sources. */
async function showTexts({ output, device, threads }: RunConfig): Promise<void> {
  using model = await openLanguageModel(resolveModelFolder(output), { device, threads });
  const options = { maxTokens: SHOWN_TOKENS, temperature: SHOWN_TEMPERATURE, seed: 1 };
  for (const { prompt, text } of await complete(model, PROMPTS, options)) {
    console.log(`\n--- ${JSON.stringify(prompt)} and what the model adds\n${prompt}${text}`);
  }
  console.log(`\nMore of it: tinyllama generate "The model" --model ${output}`);
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
