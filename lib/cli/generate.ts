// deno-lint-ignore-file no-console
// `tinyllama generate`: continues prompts with a trained model, as streaming text or as JSON lines.

import { Command, Option } from "commander";
import { DEVICE_NAMES } from "../backend/open.ts";
import {
  type Completion,
  DEFAULT_BATCH_SIZE,
  DEFAULT_MAX_TOKENS,
  generate,
  type GenerateOptions,
  type TextModel,
} from "../generate/generate.ts";
import {
  type LanguageModel,
  type LanguageModelOptions,
  openLanguageModel,
} from "../generate/language_model.ts";
import { DEFAULT_SAMPLING, resolveSampling, resolveSeed } from "../generate/sampling.ts";
import { collect, numberFlag } from "./flags.ts";
import { resolveModelFolder } from "./model_folder.ts";
import { type Prompt, readPrompts } from "./prompts.ts";

interface Flags {
  readonly model: string;
  readonly maxTokens: string;
  readonly temperature: string;
  readonly topK: string;
  readonly topP: string;
  readonly minP: string;
  readonly repetitionPenalty: string;
  readonly stop?: readonly string[];
  readonly seed?: string;
  readonly bos?: boolean;
  readonly special?: true;
  readonly input?: string;
  readonly batchSize: string;
  readonly quantize?: "q8_0" | "q4_0";
  readonly precision: "f32" | "bf16" | "auto";
  readonly device: string;
  readonly threads?: string;
  readonly json?: true;
  readonly verbose?: true;
}

const EXAMPLES = `
Examples:
  tinyllama generate "Once upon a time" --model runs/demo
  tinyllama generate "def fib(n):" --model TinyLlama-1.1B --temperature 0 --stop $'\\n\\n'
  echo "Once upon a time" | tinyllama generate --model runs/demo --seed 7
  tinyllama generate --model runs/demo --input prompts.jsonl --json > completions.jsonl

Of the folder's generation_config.json only the end-of-sequence ids are used.`;

/** The subcommand. */
export function generateCommand(): Command {
  const shown = {
    temperature: String(DEFAULT_SAMPLING.temperature),
    topK: String(DEFAULT_SAMPLING.topK),
    topP: String(DEFAULT_SAMPLING.topP),
    minP: String(DEFAULT_SAMPLING.minP),
    repetitionPenalty: String(DEFAULT_SAMPLING.repetitionPenalty),
  };
  return new Command("generate")
    .description("Continue a prompt with a trained model")
    .argument("[prompt]", "the beginning of the text; standard input when absent or -")
    .requiredOption("--model <folder>", "a run folder, a checkpoint or a Hugging Face model folder")
    .option("--max-tokens <count>", "tokens to draw at most", String(DEFAULT_MAX_TOKENS))
    .option("--temperature <value>", "higher is wilder, 0 takes the likeliest", shown.temperature)
    .option("--top-k <count>", "draw among so many likeliest tokens, 0: all", shown.topK)
    .option("--top-p <share>", "draw among those that reach this probability", shown.topP)
    .option("--min-p <share>", "drop those below this share of the likeliest", shown.minP)
    .option("--repetition-penalty <value>", "1 is off", shown.repetitionPenalty)
    .option("--stop <text>", "end before this text; may be repeated", collect)
    .option("--seed <number>", "the same seed draws the same text (default: random)")
    .option("--bos", "begin the prompt with the BOS token (default: as tokenizer_config.json says)")
    .option("--no-bos", "begin the prompt without the BOS token")
    .option("--special", "recognise control tokens such as </s> in the prompt")
    .option(
      "--input <file>",
      'prompts as JSON lines {"prompt": "...", "id": ...}; - is standard input',
    )
    .option("--batch-size <count>", "prompts that advance together", String(DEFAULT_BATCH_SIZE))
    .addOption(new Option("--quantize <type>", "shrink the weights").choices(["q8_0", "q4_0"]))
    .addOption(
      new Option("--precision <name>", "what matrix products round to")
        .choices(["f32", "bf16", "auto"]).default("auto"),
    )
    .option("--device <name>", DEVICE_NAMES.join(", "), "auto")
    .option("--threads <count>", "CPU threads (default: all)")
    .option("--json", "one JSON line for each prompt: text, tokens with log-probabilities, timings")
    .option("-v, --verbose", "device, speed and seed on stderr even when that is no terminal")
    .addHelpText("after", EXAMPLES)
    .action(run);
}

async function run(argument: string | undefined, flags: Flags): Promise<void> {
  const options = generateOptions(flags);
  const folder = resolveModelFolder(flags.model);
  const prompts = await readPrompts(argument, flags.input);
  using model = await openLanguageModel(folder, modelOptions(flags, prompts.length));
  const isReporting = flags.verbose === true || (!flags.json && Deno.stderr.isTerminal());
  const report = isReporting ? reporter(model) : () => {};
  if (flags.json) await printJson(model, prompts, options, report);
  else if (flags.input === undefined) await printStream(model, prompts[0].text, options, report);
  else await printTexts(model, prompts, options, report);
}

function modelOptions(flags: Flags, promptCount: number): LanguageModelOptions {
  return {
    device: flags.device,
    threads: flags.threads === undefined ? null : numberFlag("--threads", flags.threads),
    precision: flags.precision,
    weights: flags.quantize ?? "stored",
    batchSize: Math.min(promptCount, numberFlag("--batch-size", flags.batchSize)),
  };
}

/** The options as typed, checked before a model is loaded. @throws {UsageError} */
function generateOptions(flags: Flags): GenerateOptions & { readonly seed: number } {
  const sampling = resolveSampling({
    temperature: numberFlag("--temperature", flags.temperature),
    topK: numberFlag("--top-k", flags.topK),
    topP: numberFlag("--top-p", flags.topP),
    minP: numberFlag("--min-p", flags.minP),
    repetitionPenalty: numberFlag("--repetition-penalty", flags.repetitionPenalty),
  });
  return {
    ...sampling,
    maxTokens: numberFlag("--max-tokens", flags.maxTokens),
    stop: flags.stop,
    seed: resolveSeed(flags.seed === undefined ? null : numberFlag("--seed", flags.seed)),
    addBos: flags.bos,
    parseSpecial: flags.special,
    batchSize: numberFlag("--batch-size", flags.batchSize),
  };
}

type Report = (completion: Completion) => void;

/** Prompt and text as they come. */
async function printStream(
  model: TextModel,
  prompt: string,
  options: GenerateOptions,
  report: Report,
): Promise<void> {
  let isFirst = true;
  for await (const { text, completion } of generate(model, prompt, options)) {
    writeText(isFirst ? prompt + text : text);
    isFirst = false;
    if (completion === null) continue;
    writeText("\n");
    report(completion);
  }
}

/** Prompts and texts one after another, in the order of the prompts. */
async function printTexts(
  model: TextModel,
  prompts: readonly Prompt[],
  options: GenerateOptions,
  report: Report,
): Promise<void> {
  for await (const { completion } of inOrder(model, prompts, options)) {
    writeText(`${completion.prompt}${completion.text}\n\n`);
    report(completion);
  }
}

async function printJson(
  model: TextModel,
  prompts: readonly Prompt[],
  options: GenerateOptions,
  report: Report,
): Promise<void> {
  const { pieces } = model.tokenizer.vocabulary;
  for await (const { index, completion } of inOrder(model, prompts, options)) {
    const { timings, promptTokens, tokens } = completion;
    const line = {
      id: prompts[index].id,
      prompt: completion.prompt,
      text: completion.text,
      tokens: tokens.map(({ id, logProb }) => ({ id, piece: pieces[id] ?? "", logprob: logProb })),
      finish_reason: completion.finishReason,
      prompt_tokens: promptTokens,
      completion_tokens: tokens.length,
      seed: completion.seed,
      timings: {
        first_token_ms: rounded(timings.firstTokenMs),
        prefill_tokens_per_second: rounded(prefillRate(completion)),
        decode_tokens_per_second: rounded(decodeRate(completion)),
      },
    };
    console.log(JSON.stringify(line));
    report(completion);
  }
}

interface Finished {
  readonly index: number;
  readonly completion: Completion;
}

/** Completions as soon as they and all before them are finished. */
async function* inOrder(
  model: TextModel,
  prompts: readonly Prompt[],
  options: GenerateOptions,
): AsyncGenerator<Finished> {
  const early = new Map<number, Completion>();
  let next = 0;
  const texts = prompts.map(({ text }) => text);
  for await (const { prompt, completion } of generate(model, texts, options)) {
    if (completion === null) continue;
    early.set(prompt, completion);
    for (let ready = early.get(next); ready !== undefined; ready = early.get(next)) {
      early.delete(next);
      yield { index: next++, completion: ready };
    }
  }
}

/** Prompt tokens per second until the first token is there. */
function prefillRate({ promptTokens, timings }: Completion): number {
  return promptTokens / timings.firstTokenMs * 1000;
}

/** Tokens per second after the first one; null when there is no other. */
function decodeRate({ tokens, timings }: Completion): number | null {
  return tokens.length > 1 ? (tokens.length - 1) / timings.decodeMs * 1000 : null;
}

/** Four digits are more than a measurement has. */
function rounded(value: number | null): number | null {
  return value === null ? null : Number(value.toPrecision(4));
}

function reporter({ backend, loaded }: LanguageModel): Report {
  const weights = `${loaded.weights} weights, ${(loaded.weightBytes / 1e9).toFixed(2)} GB`;
  return (completion) => {
    const { promptTokens, tokens, timings, seed, finishReason } = completion;
    const decode = decodeRate(completion)?.toFixed(1) ?? "–";
    console.error(
      `${backend.info.name}, ${weights}; prompt ${promptTokens} tokens, ` +
        `${prefillRate(completion).toFixed(1)} tokens/s, first token after ` +
        `${timings.firstTokenMs.toFixed(0)} ms; ${tokens.length} tokens, ${decode} tokens/s, ` +
        `ended by ${finishReason}; seed ${seed}`,
    );
  };
}

function writeText(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
