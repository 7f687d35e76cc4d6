// A pretraining run as a YAML file: what may stand in it, what it means, and everything derived from it.
// Keys on disk are snake_case; the rest of the program sees RunConfig.

import { dirname, isAbsolute, join, relative } from "node:path";
import { stringify } from "yaml";
import { z } from "zod";
import { DEVICE_NAMES } from "../backend/open.ts";
import { UsageError } from "../core/errors.ts";
import type { AdamwOptions } from "../core/ops.ts";
import type { Recompute } from "../model/activations.ts";
import { ifThere } from "../io/if_there.ts";
import { MODEL_KEYS, type ModelConfig, parseModelConfig } from "../model/config.ts";
import type { LearningRateSchedule } from "./schedule.ts";
import { type Override, readYamlFile, type YamlFile } from "./yaml_file.ts";

/** A run with nothing left to decide: lengths in steps, the model spelled out. */
export interface RunConfig {
  readonly name: string;
  /** The run folder. */
  readonly output: string;
  readonly seed: number;
  readonly model: ModelConfig;
  readonly data: {
    readonly path: string;
    readonly sequenceLength: number;
    /** Share of each source in the tokens of the mixture; null takes sources by their size. */
    readonly weights: Readonly<Record<string, number>> | null;
  };
  readonly batchTokens: number;
  /** Sequences that pass through the model at once. */
  readonly microBatchSize: number;
  /** Micro-batches accumulated in one step. */
  readonly microSteps: number;
  readonly schedule: LearningRateSchedule;
  readonly adamw: AdamwOptions;
  /** Largest norm of the whole gradient; 0 never clips. */
  readonly gradClip: number;
  readonly precision: "f32" | "bf16" | "auto";
  readonly recompute: Recompute;
  readonly device: string;
  readonly threads: number | null;
  readonly evaluation: { readonly everySteps: number; readonly tokens: number };
  readonly checkpoint: {
    readonly everySteps: number;
    readonly keepLast: number;
    readonly keepEvery: number | null;
  };
  /** Consecutive steps that may be skipped because loss or gradient was not finite. */
  readonly maxSkippedSteps: number;
}

/** What a run was asked to be, for machines and for people. */
export interface LoadedConfig {
  readonly config: RunConfig;
  /** The complete file: overrides, defaults and the model written into it. Loading it gives the same run. */
  readonly yaml: string;
}

const text = () => z.string("a text").min(1, "a text that is not empty");
const positive = () => z.number("a positive number").positive("a positive number");
const atLeastZero = () => z.number("a number of 0 or more").min(0, "a number of 0 or more");
const belowOne = () =>
  z.number("a number from 0 to below 1").min(0, "a number from 0 to below 1")
    .lt(1, "a number from 0 to below 1");
const count = () => z.int("a positive integer").positive("a positive integer");
const countOrZero = () => z.int("an integer of 0 or more").min(0, "an integer of 0 or more");
const oneOf = <const T extends readonly string[]>(values: T) =>
  z.enum(values, `one of ${values.join(", ")}`);
const mapping = <S extends z.core.$ZodLooseShape>(shape: S) =>
  z.strictObject(shape, "a mapping of keys to values");

const modelShape = {
  model_type: z.literal("llama", '"llama"'),
  vocab_size: count(),
  hidden_size: count(),
  intermediate_size: count(),
  num_hidden_layers: count(),
  num_attention_heads: count(),
  num_key_value_heads: count().optional(),
  head_dim: count().optional(),
  max_position_embeddings: count(),
  rope_theta: positive().optional(),
  rms_norm_eps: positive().optional(),
  tie_word_embeddings: z.boolean("true or false").optional(),
  bos_token_id: countOrZero().optional(),
  eos_token_id: countOrZero().optional(),
} satisfies Record<typeof MODEL_KEYS[number], z.ZodType>;

const sections = {
  run: { name: text(), output: text(), seed: countOrZero() },
  data: {
    path: text(),
    sequence_length: count(),
    weights: z.record(z.string(), positive(), "a mapping of sources to positive numbers")
      .nullable().default(null),
  },
  // Of two lengths one is given; null lets a command line take back that of the file.
  horizon: { tokens: count().nullish(), steps: count().nullish() },
  optimizer: {
    lr: positive(),
    min_lr: atLeastZero(),
    warmup_steps: countOrZero().nullish(),
    warmup_tokens: countOrZero().nullish(),
    beta1: belowOne(),
    beta2: belowOne(),
    epsilon: positive(),
    weight_decay: atLeastZero(),
    grad_clip: atLeastZero(),
  },
  evaluation: { every_steps: count(), tokens: count() },
  checkpoint: {
    every_steps: count(),
    keep_last: count().default(2),
    keep_every: count().nullable().default(null),
  },
  non_finite: { max_skipped_steps: countOrZero().default(10) },
};

const rootShape = {
  run: mapping(sections.run),
  model: z.union(
    [text(), mapping(modelShape)],
    "the name of a model file or a mapping of its keys",
  ),
  data: mapping(sections.data),
  batch_tokens: count(),
  micro_batch_size: count(),
  horizon: mapping(sections.horizon),
  optimizer: mapping(sections.optimizer),
  precision: oneOf(["auto", "f32", "bf16"]).default("auto"),
  recompute: oneOf(["none", "cheap", "block"]).default("none"),
  device: oneOf(DEVICE_NAMES).default("auto"),
  threads: count().nullable().default(null),
  evaluation: mapping(sections.evaluation),
  checkpoint: mapping(sections.checkpoint),
  non_finite: mapping(sections.non_finite).default({ max_skipped_steps: 10 }),
};
const modelSchema = mapping(modelShape);
type ModelFile = z.output<typeof modelSchema>;
// `model` is a reference or written out; a union of both would hide where a written-out one is wrong.
const referringSchema = mapping({ ...rootShape, model: text() });
const completeSchema = mapping({ ...rootShape, model: modelSchema });
type RunFile = z.output<typeof completeSchema>;

/** Known keys by dotted path, for suggestions. */
function knownKeys(): Record<string, readonly string[]> {
  const keys: Record<string, readonly string[]> = {
    "": Object.keys(rootShape),
    model: MODEL_KEYS,
  };
  for (const [name, shape] of Object.entries(sections)) keys[name] = Object.keys(shape);
  return keys;
}

/**
 * Loads the run in `path`, applies the overrides of the command line and checks everything.
 * @throws {UsageError} with file, line and key of every mistake.
 */
export function loadRunConfig(path: string, overrides: readonly Override[] = []): LoadedConfig {
  const found = findConfig(path, "train", null);
  const file = readYamlFile(found);
  const ofModel = (one: Override) => one.path[0] === "model" && one.path.length > 1;
  for (const override of overrides.filter((one) => !ofModel(one))) file.set(override);
  const resolved = typeof file.get(["model"]) === "string"
    ? withModel(file.check(referringSchema, knownKeys()), dirname(found), overrides.filter(ofModel))
    : checkComplete(file, overrides.filter(ofModel));
  const config = derive(file, resolved, parseModelConfig(resolved.model, found));
  const { run, model, ...rest } = resolved;
  return { config, yaml: stringify({ run, model, ...rest }) };
}

function checkComplete(file: YamlFile, overrides: readonly Override[]): RunFile {
  for (const override of overrides) file.set(override);
  return file.check(completeSchema, knownKeys());
}

function withModel(
  raw: z.output<typeof referringSchema>,
  from: string,
  overrides: readonly Override[],
): RunFile {
  return { ...raw, model: loadModelFile(raw.model, from, overrides) };
}

/** A model file as checked YAML data. Overrides carry their leading `model`. */
function loadModelFile(
  reference: string,
  from: string,
  overrides: readonly Override[],
): ModelFile {
  const path = findConfig(reference, "models", from);
  const file = readYamlFile(path);
  for (const override of overrides) file.set({ ...override, path: override.path.slice(1) });
  return file.check(modelSchema, { "": MODEL_KEYS });
}

/** The folder of this program: its own configs lie below. */
function programFolder(): string {
  return join(import.meta.dirname ?? ".", "..", "..");
}

/**
 * The file behind a reference. A name is looked up in the folder `kind` beside the folder `from` of the file that refers
 * to it (null: a command line does) and in configs, a path relative to `from` and as written; both then among this
 * program's own.
 * @throws {UsageError} listing the places tried.
 */
function findConfig(reference: string, kind: "train" | "models", from: string | null): string {
  const isFile = /\.ya?ml$/.test(reference);
  const own = join(programFolder(), "configs", kind);
  const inFolders = (folders: readonly string[], fileName: string) =>
    isAbsolute(fileName) ? [fileName] : folders.map((folder) => join(folder, fileName));
  const nearby = from === null ? [] : [isFile ? from : join(from, "..", kind)];
  const places = isFile
    ? inFolders([...nearby, ".", programFolder(), own], reference)
    : inFolders([...nearby, join("configs", kind), own], `${reference}.yaml`);
  const found = places.find((place) => exists(place));
  if (found !== undefined) return shorten(found);
  const tried = [...new Set(places.map(shorten))].map((place) => `\n  ${place}`).join("");
  const ending = !isFile && exists(reference) ? "\nThe name of a file ends in .yaml." : "";
  throw new UsageError(
    `Cannot find the ${kind} configuration "${reference}"; tried:${tried}${ending}`,
  );
}

function exists(path: string): boolean {
  return ifThere(() => Deno.statSync(path).isFile) ?? false;
}

/** The path as a person would write it: relative when it lies below the working folder. */
function shorten(path: string): string {
  const short = relative(Deno.cwd(), path);
  return short === "" || short.startsWith("..") ? path : short;
}

/** Checks what involves several keys, and derives lengths in steps. */
function derive(file: YamlFile, raw: RunFile, model: ModelConfig): RunConfig {
  const { optimizer, horizon, data } = raw;
  const microTokens = raw.micro_batch_size * data.sequence_length;
  if (raw.batch_tokens % microTokens !== 0) {
    file.mistake(
      ["batch_tokens"],
      `expected a multiple of micro_batch_size x data.sequence_length = ` +
        `${raw.micro_batch_size} x ${data.sequence_length} = ${microTokens}`,
    );
  }
  if (data.sequence_length > model.maxSeqLen) {
    file.mistake(
      ["data", "sequence_length"],
      `expected at most the model's max_position_embeddings = ${model.maxSeqLen}`,
    );
  }
  if (optimizer.min_lr >= optimizer.lr) {
    file.mistake(["optimizer", "min_lr"], `expected less than optimizer.lr = ${optimizer.lr}`);
  }
  checkOneOf(file, ["horizon"], ["tokens", "steps"], horizon);
  checkOneOf(file, ["optimizer"], ["warmup_steps", "warmup_tokens"], optimizer);
  const inSteps = (tokens: number | null = 0) => Math.ceil((tokens ?? 0) / raw.batch_tokens);
  const totalSteps = horizon.steps ?? inSteps(horizon.tokens);
  const warmupSteps = optimizer.warmup_steps ?? inSteps(optimizer.warmup_tokens);
  if (totalSteps > 0 && warmupSteps >= totalSteps) {
    const key = (optimizer.warmup_steps ?? null) === null ? "warmup_tokens" : "warmup_steps";
    file.mistake(["optimizer", key], `expected less than the whole run of ${totalSteps} steps`);
  }
  file.throwMistakes();
  return {
    name: raw.run.name,
    output: raw.run.output,
    seed: raw.run.seed,
    model,
    data: { path: data.path, sequenceLength: data.sequence_length, weights: data.weights },
    batchTokens: raw.batch_tokens,
    microBatchSize: raw.micro_batch_size,
    microSteps: raw.batch_tokens / microTokens,
    schedule: { lr: optimizer.lr, minLr: optimizer.min_lr, warmupSteps, totalSteps },
    adamw: {
      beta1: optimizer.beta1,
      beta2: optimizer.beta2,
      epsilon: optimizer.epsilon,
      weightDecay: optimizer.weight_decay,
    },
    gradClip: optimizer.grad_clip,
    precision: raw.precision,
    recompute: raw.recompute,
    device: raw.device,
    threads: raw.threads,
    evaluation: { everySteps: raw.evaluation.every_steps, tokens: raw.evaluation.tokens },
    checkpoint: {
      everySteps: raw.checkpoint.every_steps,
      keepLast: raw.checkpoint.keep_last,
      keepEvery: raw.checkpoint.keep_every,
    },
    maxSkippedSteps: raw.non_finite.max_skipped_steps,
  };
}

/** Notes a mistake unless exactly one of two keys of a mapping is given; null counts as absent. */
function checkOneOf<K extends string>(
  file: YamlFile,
  parent: readonly string[],
  keys: readonly [K, K],
  values: Readonly<Partial<Record<K, number | null>>>,
): void {
  const given = keys.filter((key) => (values[key] ?? null) !== null);
  if (given.length === 1) return;
  const wanted =
    `expected exactly one of ${keys.join(" and ")} in ${parent.join(".")}, the other ` +
    "null or absent";
  file.mistake([...parent, given.length === 0 ? keys[0] : keys[1]], wanted);
}
