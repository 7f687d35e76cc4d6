// Shared by the generation tests: small models with random weights on the CPU, and what drawing from them should give.

import type { Backend } from "../../lib/core/backend.ts";
import { openBackend } from "../../lib/backend/open.ts";
import { DEFAULT_SAMPLING } from "../../lib/generate/sampling.ts";
import { decode, type Sequence } from "../../lib/generate/decode.ts";
import { Engine, type EngineOptions } from "../../lib/generate/engine.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { saveWeights } from "../../lib/io/hf_weights.ts";
import { type ModelConfig, toHfConfig } from "../../lib/model/config.ts";
import type { Model } from "../../lib/model/forward.ts";
import { initializeWeights } from "../../lib/model/init.ts";
import { allocateParameters, type ParameterSet, residentWeights } from "../../lib/model/weights.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import { weightSlots } from "../../lib/train/snapshot.ts";

/** Two layers of grouped-query attention: milliseconds a pass. */
export const SMALL_MODEL: ModelConfig = {
  vocabSize: 97,
  hiddenSize: 32,
  intermediateSize: 96,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 8,
  maxSeqLen: 640,
  ropeTheta: 10000,
  ropeFactor: 1,
  rmsNormEps: 1e-5,
  tieWordEmbeddings: false,
  bosId: 1,
  eosIds: [2],
};

/** The same with the vocabulary of Llama's tokenizer. */
export const TEXT_MODEL: ModelConfig = { ...SMALL_MODEL, vocabSize: 32000, maxSeqLen: 64 };

export const GREEDY = { ...DEFAULT_SAMPLING, temperature: 0 };

/** A model on a backend of its own, which is closed with it. */
export interface OpenModel extends Disposable {
  readonly model: Model;
  readonly backend: Backend;
  readonly params: ParameterSet;
}

/** A model with random weights, large enough that its logits differ clearly. */
export async function openSmall(config = SMALL_MODEL, threads = 2): Promise<OpenModel> {
  return smallOn(await openBackend({ device: "cpu", threads, matmul: "f32" }), config);
}

/** The same on a backend that is given, and closed with the model. */
export function smallOn(backend: Backend, config = SMALL_MODEL): OpenModel {
  const params = allocateParameters(backend, config, "parameters", "f32");
  initializeWeights(backend, config, params, 3407);
  // The usual initial head makes all tokens nearly equally likely.
  const head = new Float32Array(config.vocabSize * config.hiddenSize);
  for (let i = 0; i < head.length; i++) head[i] = Math.sin(i * i % 1009) * 0.7;
  backend.write(params.root.lmHead, head);
  return {
    model: { config, backend, weights: residentWeights(params) },
    backend,
    params,
    [Symbol.dispose]: () => backend[Symbol.dispose](),
  };
}

/** Writes a Hugging Face model folder of TEXT_MODEL; `eosIds` go into generation_config.json. */
export async function writeTextModel(
  folder: string,
  settings: { readonly addBos: boolean; readonly eosIds: readonly number[] },
): Promise<void> {
  using small = await openSmall(TEXT_MODEL);
  const { maxSeqLen: modelMaxLength } = TEXT_MODEL;
  Deno.mkdirSync(folder, { recursive: true });
  const slots = weightSlots(TEXT_MODEL, small.params);
  await saveWeights(small.backend, `${folder}/model.safetensors`, slots);
  const write = (name: string, value: unknown) =>
    Deno.writeTextFileSync(`${folder}/${name}`, JSON.stringify(value));
  write("config.json", toHfConfig(TEXT_MODEL, "float32"));
  write("generation_config.json", { eos_token_id: settings.eosIds, temperature: 0.1 });
  await saveTokenizer(await llamaTokenizer(), folder, { addBos: settings.addBos, modelMaxLength });
}

/** A prompt of its own for each index. */
export function promptOf(index: number, length: number, vocabSize = SMALL_MODEL.vocabSize) {
  return Int32Array.from({ length }, (_, i) => (index * 31 + i * i * 7 + i) % vocabSize);
}

/** What one sequence drew. */
export interface Drawn {
  readonly ids: number[];
  readonly logProbs: number[];
  end: string | null;
}

/** Draws from an engine of its own; `ends` says for each sequence which id is its last. */
export async function draw(
  model: Model,
  prompts: readonly Int32Array[],
  options: Partial<EngineOptions> & {
    readonly maxTokens?: number;
    readonly seed?: number;
    readonly streams?: readonly number[];
    readonly endIds?: readonly number[];
    readonly signal?: AbortSignal;
    readonly onToken?: (prompt: number) => void;
  },
): Promise<Drawn[]> {
  using engine = new Engine(model, {
    batchSize: options.batchSize ?? prompts.length,
    contextLength: options.contextLength ?? model.config.maxSeqLen,
    sampling: options.sampling ?? GREEDY,
  });
  const results = prompts.map((): Drawn => ({ ids: [], logProbs: [], end: null }));
  const sequences = prompts.map((prompt, index): Sequence & { readonly index: number } => ({
    index,
    prompt,
    maxTokens: options.maxTokens ?? 12,
    stream: options.streams?.[index] ?? index,
    endsWith: (id) => options.endIds?.includes(id) ?? false,
  }));
  const run = { seed: options.seed ?? 1, signal: options.signal };
  for await (const { sequence, id, logProb, end } of decode(engine, sequences, run)) {
    const result = results[sequence.index];
    result.ids.push(id);
    result.logProbs.push(logProb);
    result.end = end;
    options.onToken?.(sequence.index);
  }
  return results;
}

/** log softmax of one row of logits. */
export function logSoftmax(logits: Float32Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return Float64Array.from(logits, (logit) => logit - most - Math.log(sum));
}

/** The greedy continuation without a cache: the whole text through the model again for every token. */
export async function greedyWithoutCache(
  model: Model,
  prompt: Int32Array,
  count: number,
): Promise<Drawn> {
  let ids = prompt;
  const drawn: Drawn = { ids: [], logProbs: [], end: null };
  for (let i = 0; i < count; i++) {
    const logProbs = logSoftmax(await computeLogits(model, ids, "last"));
    const best = logProbs.indexOf(Math.max(...logProbs));
    drawn.ids.push(best);
    drawn.logProbs.push(logProbs[best]);
    ids = Int32Array.of(...ids, best);
  }
  return drawn;
}
