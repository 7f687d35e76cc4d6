// From prompts to text: tokenizer on both sides of decode.ts, stop strings, and what each completion took.

import { UsageError } from "../core/errors.ts";
import type { SamplingOptions } from "../core/ops.ts";
import type { Model } from "../model/forward.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { decode, type Sequence } from "./decode.ts";
import { Engine } from "./engine.ts";
import { resolveSampling, resolveSeed } from "./sampling.ts";
import { TextStream } from "./text_stream.ts";

/** What text generation needs of a model. */
export interface TextModel {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** Any of these ends a text. */
  readonly eosIds: readonly number[];
}

/** How to continue prompts. Sampling options absent are those of `DEFAULT_SAMPLING`; temperature 0 is greedy. */
export interface GenerateOptions extends Partial<SamplingOptions> {
  /** At most this many tokens for each prompt; the context may end before. Default 256. */
  readonly maxTokens?: number;
  /** Texts at which a completion ends, without them. */
  readonly stop?: readonly string[];
  /** The same seed draws the same text, whatever the number of threads. Default null: a random one. */
  readonly seed?: number | null;
  /** Whether prompts begin with BOS. Default: as the tokenizer's folder says. */
  readonly addBos?: boolean;
  /** Control tokens spelled out in a prompt, such as `</s>`, are taken as such. Default false. */
  readonly parseSpecial?: boolean;
  /** Prompts that advance together. Default 8. */
  readonly batchSize?: number;
  /** Aborting ends generation after the token in progress, without an error. */
  readonly signal?: AbortSignal;
}

/** Why a completion ended: a stop string, maxTokens, an end-of-sequence token, or a full context. */
export type FinishReason = "stop" | "length" | "eos" | "context";

/** One token and the text that is certain with it. */
export interface TextPiece {
  /** Index of the prompt. */
  readonly prompt: number;
  readonly id: number;
  /** Log-probability of the token under the model's own distribution: temperature 1, nothing cut off. */
  readonly logProb: number;
  /** Whole characters, possibly none; never part of a stop string. */
  readonly text: string;
  /** With the last piece of a prompt, all of it. */
  readonly completion: Completion | null;
}

/** A finished continuation of one prompt. */
export interface Completion {
  readonly prompt: string;
  /** What follows the prompt, without stop string. */
  readonly text: string;
  /** All tokens drawn, an end-of-sequence token and those of a stop string included. */
  readonly tokens: readonly { readonly id: number; readonly logProb: number }[];
  readonly finishReason: FinishReason;
  /** Tokens of the prompt, BOS included. */
  readonly promptTokens: number;
  readonly seed: number;
  readonly timings: Timings;
}

/** Wall-clock times of one prompt; in a batch, those of others passed meanwhile. */
export interface Timings {
  /** From the start of its prefill to its first token. */
  readonly firstTokenMs: number;
  /** From its first to its last token. */
  readonly decodeMs: number;
}

/** Tokens drawn for a prompt where nothing else is asked for. */
export const DEFAULT_MAX_TOKENS = 256;
/** Prompts that advance together where nothing else is asked for. */
export const DEFAULT_BATCH_SIZE = 8;

/**
 * Continues a prompt, or several that advance together. The pieces of one prompt come in order, those of different ones
 * interleave. After an abort the unfinished prompts have no completion.
 * @throws {UsageError} for an option out of range or a prompt that leaves no room in the context.
 */
export async function* generate(
  textModel: TextModel,
  prompt: string | readonly string[],
  options: GenerateOptions = {},
): AsyncGenerator<TextPiece, void, void> {
  const prompts = typeof prompt === "string" ? [prompt] : prompt;
  const { model } = textModel;
  const sampling = resolveSampling(options);
  const seed = resolveSeed(options.seed ?? null);
  const maxTokens = positive("max-tokens", options.maxTokens ?? DEFAULT_MAX_TOKENS);
  const batchSize = positive("batch-size", options.batchSize ?? DEFAULT_BATCH_SIZE);
  if (options.stop?.includes("")) throw new UsageError("Cannot stop at an empty text");
  if (prompts.length === 0) return;
  const encoded = prompts.map((prompt) => encodePrompt(textModel, prompt, options));
  const longest = encoded.reduce((most, ids) => Math.max(most, ids.length), 0);
  using engine = new Engine(model, {
    batchSize: Math.min(batchSize, prompts.length),
    contextLength: Math.min(model.config.maxSeqLen, longest + maxTokens),
    sampling,
  });
  const setup = { textModel, maxTokens, seed, stops: options.stop ?? [] };
  const texts = startTexts(setup, prompts, encoded);
  for await (const token of decode(engine, texts, { seed, signal: options.signal })) {
    yield token.sequence.take(token.id, token.logProb, token.end);
  }
}

/**
 * Continues prompts and returns when all are finished, in their order. Options as for {@linkcode generate}.
 *
 * ```ts
 * const [{ text, finishReason }] = await complete(model, "Q: 2 + 2\nA:", { stop: ["\n"], temperature: 0 });
 * ```
 * @throws {UsageError} as `generate` does.
 * @throws the reason of `signal` when it aborted.
 */
export async function complete(
  textModel: TextModel,
  prompt: string | readonly string[],
  options: GenerateOptions = {},
): Promise<Completion[]> {
  const completions: Completion[] = [];
  for await (const piece of generate(textModel, prompt, options)) {
    if (piece.completion !== null) completions[piece.prompt] = piece.completion;
  }
  options.signal?.throwIfAborted();
  return completions;
}

/**
 * The ids of a prompt. An empty one without BOS begins with EOS, which in training data stands before each document.
 * @throws {UsageError} when it leaves no room in the context or holds tokens that only the tokenizer knows.
 */
function encodePrompt(
  { model, tokenizer, eosIds }: TextModel,
  prompt: string,
  options: GenerateOptions,
): Int32Array {
  const addBos = options.addBos ?? tokenizer.vocabulary.addsBos;
  const ids = tokenizer.encode(prompt, { addBos, parseSpecial: options.parseSpecial });
  const { maxSeqLen } = model.config;
  if (ids.length >= maxSeqLen) {
    throw new UsageError(
      `Cannot continue a prompt of ${ids.length} tokens: the model's context is ${maxSeqLen} ` +
        `tokens for prompt and text together`,
    );
  }
  const unknown = ids.find((id) => id >= model.config.vocabSize);
  if (unknown !== undefined) {
    throw new UsageError(
      `Cannot continue a prompt with ${JSON.stringify(tokenizer.vocabulary.pieces[unknown])}: it ` +
        `is token ${unknown}, the model has only ${model.config.vocabSize}`,
    );
  }
  return ids.length > 0 ? ids : Int32Array.of(eosIds[0]);
}

function positive(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new UsageError(`Cannot generate with ${name} ${value}: expected a whole number above 0`);
}

interface Setup {
  readonly textModel: TextModel;
  readonly maxTokens: number;
  readonly seed: number;
  readonly stops: readonly string[];
}

/** Begins each prompt, and its clock, when it is taken. */
function* startTexts(
  setup: Setup,
  prompts: readonly string[],
  encoded: readonly Int32Array[],
): Generator<TextSequence> {
  for (const [index, ids] of encoded.entries()) {
    yield new TextSequence(setup, index, prompts[index], ids);
  }
}

/** A prompt with the text drawn so far. */
class TextSequence implements Sequence {
  readonly prompt: Int32Array;
  readonly maxTokens: number;
  readonly stream: number;
  readonly #setup: Setup;
  readonly #promptText: string;
  readonly #stream: TextStream;
  readonly #tokens: { id: number; logProb: number }[] = [];
  readonly #startMs = performance.now();
  #firstTokenMs = 0;
  #text = "";
  #fresh = "";

  constructor(setup: Setup, index: number, promptText: string, prompt: Int32Array) {
    this.prompt = prompt;
    this.maxTokens = setup.maxTokens;
    this.stream = index;
    this.#setup = setup;
    this.#promptText = promptText;
    // After an empty prompt the text begins here, and its first piece brings a space of its own.
    const isContinuation = promptText !== "";
    const decoder = setup.textModel.tokenizer.streamDecoder({ isContinuation });
    this.#stream = new TextStream(decoder, setup.stops);
  }

  endsWith(id: number): boolean {
    const { tokenizer, eosIds } = this.#setup.textModel;
    const isEos = eosIds.includes(id);
    // Embeddings may be padded beyond the vocabulary; those ids stand for no text.
    const isText = !isEos && id < tokenizer.vocabSize;
    this.#fresh = isText ? this.#stream.push(id) : "";
    return isEos || this.#stream.isStopped;
  }

  take(id: number, logProb: number, end: "sequence" | "length" | "context" | null): TextPiece {
    if (this.#tokens.length === 0) this.#firstTokenMs = performance.now();
    this.#tokens.push({ id, logProb });
    const text = this.#fresh + (end === null ? "" : this.#stream.flush());
    this.#text += text;
    const completion = end === null ? null : this.#complete(end);
    return { prompt: this.stream, id, logProb, text, completion };
  }

  #complete(end: "sequence" | "length" | "context"): Completion {
    const last = this.#stream.isStopped ? "stop" : "eos";
    return {
      prompt: this.#promptText,
      text: this.#text,
      tokens: this.#tokens,
      finishReason: end === "sequence" ? last : end,
      promptTokens: this.prompt.length,
      seed: this.#setup.seed,
      timings: {
        firstTokenMs: this.#firstTokenMs - this.#startMs,
        decodeMs: performance.now() - this.#firstTokenMs,
      },
    };
  }
}
