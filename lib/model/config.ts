// The architecture as plain data, and its Hugging Face spelling (config.json). TinyLlama §2.2.
//
// Shape letters used in all of lib/model: B sequences, T positions, N = B·T rows, C hidden size, F intermediate size,
// H query heads, K key/value heads, D head width, L layers, V vocabulary, S cache length.

import { FormatError } from "../core/errors.ts";
import { quote } from "../core/quote.ts";

/** A Llama: RMSNorm before each half, rotary positions, grouped-query attention, SwiGLU, no biases. */
export interface ModelConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Longest context in tokens; positions beyond it are refused. */
  readonly maxSeqLen: number;
  readonly ropeTheta: number;
  /** Positions are divided by this: linear interpolation to longer contexts; 1 is none. */
  readonly ropeFactor: number;
  readonly rmsNormEps: number;
  /** True when the output layer is the embedding table itself. */
  readonly tieWordEmbeddings: boolean;
  readonly bosId: number;
  /** Any of these ends a text; the first one separates documents in training data. */
  readonly eosIds: readonly number[];
}

type Fields = Readonly<Record<string, unknown>>;

/** The keys of our own model files (configs/models/*.yaml); config.json may hold any others besides. */
export const MODEL_KEYS = [
  "model_type",
  "vocab_size",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
  "max_position_embeddings",
  "rope_theta",
  "rms_norm_eps",
  "tie_word_embeddings",
  "bos_token_id",
  "eos_token_id",
] as const;

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads typed fields and says which one is wrong; `source` names the file in every message. */
class FieldReader {
  constructor(readonly fields: Fields, readonly source: string) {}

  fail(key: string, wanted: string): never {
    const found = quote(this.fields[key]);
    throw new FormatError(
      `Cannot read the model in "${this.source}": "${key}" is ${found}, expected ${wanted}`,
    );
  }

  /** A number above zero, and whole when `whole`; `fallback` stands in when the key is absent or null. */
  positive(key: string, whole: boolean, fallback?: number): number {
    const value = this.fields[key] ?? fallback;
    if (typeof value !== "number" || !(value > 0) || (whole && !Number.isSafeInteger(value))) {
      return this.fail(key, whole ? "a positive integer" : "a positive number");
    }
    return value;
  }

  /** Refuses any value but the listed ones; absent is fine. */
  only(key: string, allowed: readonly unknown[]): void {
    const value = this.fields[key];
    if (value !== undefined && value !== null && !allowed.includes(value)) {
      this.fail(key, allowed.map(quote).join(" or "));
    }
  }

  ids(key: string, fallback: number): readonly number[] {
    const value = this.fields[key] ?? fallback;
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    const ids: number[] = [];
    for (const id of list) {
      if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) {
        return this.fail(key, "a token id or a list of them");
      }
      ids.push(id);
    }
    return ids.length > 0 ? ids : this.fail(key, "a token id or a list of them");
  }
}

/** Rotary settings in both spellings: `rope_theta` + `rope_scaling`, and transformers 5's `rope_parameters`. */
function readRope(reader: FieldReader): { ropeTheta: number; ropeFactor: number } {
  const key = (reader.fields.rope_parameters ?? null) === null ? "rope_scaling" : "rope_parameters";
  const nested = reader.fields[key] ?? {};
  if (!isFields(nested)) return reader.fail(key, "an object");
  const rope = new FieldReader(nested, reader.source);
  rope.only("rope_type", ["default", "linear"]);
  rope.only("type", ["default", "linear"]);
  const isLinear = (nested.rope_type ?? nested.type) === "linear";
  const topLevel = reader.positive("rope_theta", false, 10000);
  return {
    ropeTheta: rope.positive("rope_theta", false, topLevel),
    ropeFactor: isLinear ? rope.positive("factor", false) : 1,
  };
}

/**
 * The architecture in a parsed config.json or model YAML; `source` names it in errors.
 * @throws {FormatError} when it is not a Llama this core can run, naming the key, what it holds and what was expected.
 */
export function parseModelConfig(json: unknown, source: string): ModelConfig {
  if (!isFields(json)) throw new FormatError(`Cannot read the model in "${source}": not an object`);
  const reader = new FieldReader(json, source);
  if (json.model_type !== "llama") reader.fail("model_type", '"llama"');
  reader.only("hidden_act", ["silu"]);
  reader.only("attention_bias", [false]);
  reader.only("mlp_bias", [false]);
  const hiddenSize = reader.positive("hidden_size", true);
  const numHeads = reader.positive("num_attention_heads", true);
  const numKvHeads = reader.positive("num_key_value_heads", true, numHeads);
  const isHeadDimGiven = (json.head_dim ?? null) !== null;
  if (!isHeadDimGiven && hiddenSize % numHeads !== 0) {
    reader.fail("num_attention_heads", `a divisor of hidden_size = ${hiddenSize}, or a head_dim`);
  }
  const headDim = reader.positive("head_dim", true, hiddenSize / numHeads);
  if (headDim % 2 !== 0) reader.fail("head_dim", "an even number (rotary pairs)");
  if (numHeads % numKvHeads !== 0) {
    reader.fail("num_key_value_heads", `a divisor of num_attention_heads = ${numHeads}`);
  }
  reader.only("tie_word_embeddings", [true, false]);
  return {
    vocabSize: reader.positive("vocab_size", true),
    hiddenSize,
    intermediateSize: reader.positive("intermediate_size", true),
    numLayers: reader.positive("num_hidden_layers", true),
    numHeads,
    numKvHeads,
    headDim,
    maxSeqLen: reader.positive("max_position_embeddings", true),
    ...readRope(reader),
    rmsNormEps: reader.positive("rms_norm_eps", false, 1e-6),
    tieWordEmbeddings: json.tie_word_embeddings === true,
    bosId: reader.ids("bos_token_id", 1)[0],
    eosIds: reader.ids("eos_token_id", 2),
  };
}

/** The config.json transformers reads, in both spellings of the rotary settings. `dtype` is that of the saved weights. */
export function toHfConfig(config: ModelConfig, dtype: "float32" | "bfloat16"): Fields {
  const linear = config.ropeFactor === 1
    ? null
    : { rope_type: "linear", factor: config.ropeFactor };
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxSeqLen,
    rope_theta: config.ropeTheta,
    rope_scaling: linear,
    rope_parameters: { rope_theta: config.ropeTheta, ...(linear ?? { rope_type: "default" }) },
    rms_norm_eps: config.rmsNormEps,
    tie_word_embeddings: config.tieWordEmbeddings,
    hidden_act: "silu",
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: config.bosId,
    eos_token_id: config.eosIds.length === 1 ? config.eosIds[0] : config.eosIds,
    dtype,
    torch_dtype: dtype,
    use_cache: true,
  };
}

/** Rows of the fused query, key and value projection: (H + 2K) · D. */
export function qkvWidth(config: ModelConfig): number {
  return (config.numHeads + 2 * config.numKvHeads) * config.headDim;
}

/** Width of the attention output: H · D. */
export function attentionWidth(config: ModelConfig): number {
  return config.numHeads * config.headDim;
}
