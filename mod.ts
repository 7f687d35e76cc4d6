/**
 * The public API: load a model, tokenize, logits of given tokens, generate, train.
 *
 * ```ts
 * import { generate, loadModel } from "./mod.ts";
 *
 * using model = await loadModel("runs/demo");
 * for await (const { text } of generate(model, "Once upon a time", { seed: 7 })) {
 *   Deno.stdout.writeSync(new TextEncoder().encode(text));
 * }
 * ```
 *
 * Scripts outside this folder are run with `deno run -A --config FOLDER/deno.json`.
 * @module
 */

import { resolveModelFolder } from "./lib/cli/model_folder.ts";
import {
  type LanguageModel,
  type LanguageModelOptions,
  openLanguageModel,
} from "./lib/generate/language_model.ts";

export type { LanguageModel, LanguageModelOptions };
export {
  complete,
  type Completion,
  type FinishReason,
  generate,
  type GenerateOptions,
  type TextModel,
  type TextPiece,
  type Timings,
} from "./lib/generate/generate.ts";
export { type LoadedModel, type WeightChoice } from "./lib/generate/load_model.ts";
export { computeLogits } from "./lib/generate/logits.ts";
export { DEFAULT_SAMPLING } from "./lib/generate/sampling.ts";
export { type ModelConfig } from "./lib/model/config.ts";
export { type Model } from "./lib/model/forward.ts";
export { type DecodeOptions, type StreamDecoder } from "./lib/tokenizer/decoder.ts";
export { type EncodeOptions, llamaTokenizer, Tokenizer } from "./lib/tokenizer/tokenizer.ts";
export { loadTokenizer } from "./lib/tokenizer/tokenizer_folder.ts";
export { type Checkpoint } from "./lib/train/checkpoint.ts";
export { type LoadedConfig, loadRunConfig, type RunConfig } from "./lib/train/config.ts";
export { type StepMetrics, type ValidationMetrics } from "./lib/train/metrics.ts";
export { type RunPlan } from "./lib/train/plan.ts";
export { type PretrainHooks, type PretrainOutcome } from "./lib/train/pretrain.ts";
export { train, type TrainOptions } from "./lib/train/train.ts";
export { type Override, parseOverride } from "./lib/train/yaml_file.ts";
export { type SamplingOptions } from "./lib/core/ops.ts";
export { DeviceError, FormatError, TinyllamaError, UsageError } from "./lib/core/errors.ts";

/**
 * Loads a model with its tokenizer: from a run folder (its latest checkpoint), a checkpoint, or a Hugging Face Llama
 * folder. Dispose it to free weights and threads.
 *
 * ```ts
 * using model = await loadModel("TinyLlama-1.1B", { weights: "q8_0", threads: 4 });
 * const ids = model.tokenizer.encode("The capital of France is", { addBos: true });
 * const logits = await computeLogits(model.model, ids, "last");
 * ```
 * @throws {UsageError} when there is no model, saying what was looked for.
 * @throws {FormatError | DeviceError} when a file or the device is not as expected.
 */
export async function loadModel(
  path: string,
  options: LanguageModelOptions = {},
): Promise<LanguageModel> {
  return await openLanguageModel(resolveModelFolder(path), options);
}
