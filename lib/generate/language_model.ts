// A model folder made ready to generate: device, weights and tokenizer, opened together and closed together.

import { join } from "node:path";
import { openBackend } from "../backend/open.ts";
import type { Backend } from "../core/backend.ts";
import { byteLengthOf } from "../core/dtype.ts";
import { FormatError } from "../core/errors.ts";
import { quote } from "../core/quote.ts";
import { readJson } from "../io/json_file.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterCount } from "../model/weights.ts";
import { loadTokenizer } from "../tokenizer/tokenizer_folder.ts";
import { DEFAULT_BATCH_SIZE, type TextModel } from "./generate.ts";
import { type LoadedModel, loadModel, readModelConfig, type WeightChoice } from "./load_model.ts";

/** Where and how a model computes. */
export interface LanguageModelOptions {
  /** As `--device` takes it. Default `auto`. */
  readonly device?: string;
  /** Default null: one per logical processor. */
  readonly threads?: number | null;
  /** What matrix products round their operands to. Default `auto`: bf16 where the CPU multiplies it in hardware. */
  readonly precision?: "f32" | "bf16" | "auto";
  /** The type of the weights in memory. Default `stored`: as in the file. */
  readonly weights?: WeightChoice;
  /** Prompts that will advance together; only reserves address space on WASM. Default 8. */
  readonly batchSize?: number;
}

/** A model with its tokenizer and its device. Disposing closes all of it. */
export interface LanguageModel extends TextModel, Disposable {
  /** The device; `info.name` says which one was chosen. */
  readonly backend: Backend;
  /** The weights: their type, size, and whether they are views of the files. */
  readonly loaded: LoadedModel;
}

/**
 * Opens a device and loads a Hugging Face model folder. Of generation_config.json only `eos_token_id` is used, in place
 * of that of config.json: sampling options are never taken from a folder.
 * @throws {FormatError} when a file of the folder is missing, damaged or of another architecture.
 * @throws {UsageError | DeviceError} when the device does not exist or cannot do what was asked for.
 */
export async function openLanguageModel(
  folder: string,
  options: LanguageModelOptions = {},
): Promise<LanguageModel> {
  const config = readModelConfig(folder);
  const eosIds = readEosIds(join(folder, "generation_config.json")) ?? config.eosIds;
  const tokenizer = await loadTokenizer(folder);
  const weights = options.weights ?? "stored";
  using resources = new DisposableStack();
  const backend = resources.use(
    await openBackend({
      device: options.device ?? "auto",
      threads: options.threads ?? null,
      matmul: options.precision ?? "auto",
      memoryBytes: memoryBytes(folder, config, weights, options.batchSize ?? DEFAULT_BATCH_SIZE),
    }),
  );
  const loaded = resources.use(await loadModel(backend, folder, { weights }));
  const owned = resources.move();
  return {
    backend,
    loaded,
    model: loaded.model,
    tokenizer,
    eosIds,
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
}

/** The ids of a generation_config.json; null when there is none or it does not say. */
function readEosIds(path: string): readonly number[] | null {
  let json: unknown;
  try {
    json = readJson(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  const value = typeof json === "object" && json !== null && "eos_token_id" in json
    ? json.eos_token_id
    : null;
  if (value === null) return null;
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value];
  const isId = (id: unknown): id is number => Number.isSafeInteger(id);
  if (ids.length > 0 && ids.every(isId)) return ids;
  throw new FormatError(
    `Cannot read "${path}": "eos_token_id" is ${quote(value)}, expected token ids`,
  );
}

/** About what weights, full caches of a batch and activations take. */
function memoryBytes(
  folder: string,
  config: ModelConfig,
  weights: WeightChoice,
  batchSize: number,
): number {
  const { numLayers, numKvHeads, headDim, maxSeqLen } = config;
  const cacheBytes = 2 * 4 * batchSize * numLayers * numKvHeads * headDim * maxSeqLen;
  const weightBytes = weights === "stored"
    ? storedBytes(folder)
    : byteLengthOf(weights, Math.ceil(parameterCount(config) / 32) * 32);
  return weightBytes + cacheBytes + (256 << 20);
}

function storedBytes(folder: string): number {
  return [...Deno.readDirSync(folder)]
    .filter(({ name }) => name.startsWith("model") && name.endsWith(".safetensors"))
    .reduce((sum, { name }) => sum + Deno.statSync(join(folder, name)).size, 0);
}
