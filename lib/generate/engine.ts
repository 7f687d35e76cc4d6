// The device side of generating: a prompt into a slot, one decoding step for the first slots, the drawn tokens back.
// Everything is allocated once. Knows ids and nothing of text; which sequence is in which slot is decided in decode.ts.

import type { Backend } from "../core/backend.ts";
import type { SamplingOptions } from "../core/ops.ts";
import { carve, reshape, rows, type Tensor } from "../core/tensor.ts";
import { type Activations, type InferencePlan, inferencePlan } from "../model/activations.ts";
import { forward, type Model } from "../model/forward.ts";
import {
  allocateLogits,
  headLogitsInF32,
  type LogitsBuffers,
  logitsOfRows,
} from "../model/head.ts";
import { allocateKvCache, cacheOfSequences, type KvCache } from "../model/kv_cache.ts";

/** What is fixed for the life of an engine. */
export interface EngineOptions {
  /** Slots: sequences that advance together. */
  readonly batchSize: number;
  /** Tokens of prompt and continuation together, at most the model's `maxSeqLen`. */
  readonly contextLength: number;
  readonly sampling: SamplingOptions;
}

/** The newest token of every slot. */
export interface DrawnTokens {
  readonly ids: Int32Array;
  /** Under the model's own distribution: temperature 1, no penalty, nothing cut off. */
  readonly logProbs: Float32Array;
}

// Rows of a prompt that pass through the model at once: with 256 a prompt of 1024 tokens takes a fifth longer (1.1B, CPU).
const PREFILL_ROWS = 512;
// A graphics card is full only with more of them.
const ASYNCHRONOUS_PREFILL_ROWS = 2048;

// Some devices want views to begin at multiples of 256 bytes.
const VIEW_ALIGNMENT = 256;

/** The device memory of n consecutive slots. */
interface Lanes {
  readonly cache: KvCache;
  readonly tokens: Tensor; //    (n) i32: the newest token
  readonly positions: Tensor; // (n, 1) i32: where it stands
  readonly logProbs: Tensor; //  (n) f32
  readonly head: LogitsBuffers; // (n, V)
  readonly seen: Tensor; //      (n, V) i32: how often each token occurs so far
  readonly rng: Tensor; //       (n, 3) i32: seed and stream
}

/** A step on the first n slots, recorded or about to be. */
interface Step {
  readonly key: string;
  readonly record: () => void;
}

/** Activations, key/value cache, logits and tokens of up to `batchSize` sequences. */
export class Engine implements Disposable {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly backend: Backend;
  readonly #model: Model;
  readonly #sampling: SamplingOptions;
  readonly #plan: InferencePlan;
  readonly #results: Tensor; //        the newest tokens, then their log-probabilities: read in one piece
  readonly #logProbOffset: number; //  bytes
  readonly #prefillTokens: Tensor; //  (chunk) i32
  readonly #slots: readonly Lanes[];
  readonly #steps: readonly Step[]; // on the first n slots at n − 1
  readonly #positions: Int32Array; //  0, 1, 2 …
  readonly #counts: Int32Array; //     (V) scratch
  readonly #resources: DisposableStack;

  /** @throws {RangeError} when the context is longer than the model allows. */
  constructor(model: Model, options: EngineOptions) {
    const { config, backend } = model;
    const { batchSize: B, contextLength: S } = options;
    if (S > config.maxSeqLen) {
      throw new RangeError(
        `Cannot use a context of ${S} tokens: the model has ${config.maxSeqLen}`,
      );
    }
    const { isAsynchronous } = backend.info;
    const prefillRows = isAsynchronous ? ASYNCHRONOUS_PREFILL_ROWS : PREFILL_ROWS;
    const V = config.vocabSize, chunk = Math.min(prefillRows, S);
    using resources = new DisposableStack();
    this.batchSize = B;
    this.contextLength = S;
    this.vocabSize = V;
    this.backend = backend;
    this.#model = model;
    this.#sampling = options.sampling;
    this.#plan = resources.use(inferencePlan(backend, config, Math.max(chunk, B), S));
    const cache = resources.use(allocateKvCache(backend, config, B, S));
    this.#logProbOffset = Math.ceil(4 * B / VIEW_ALIGNMENT) * VIEW_ALIGNMENT;
    const { tensors } = resources.use(backend.allocate("tokens", {
      results: { dtype: "i32", shape: [this.#logProbOffset / 4 + B] },
      positions: { dtype: "i32", shape: [B, 1] },
      seen: { dtype: "i32", shape: [B, V] },
      rng: { dtype: "i32", shape: [B, 3] },
      prefillTokens: { dtype: "i32", shape: [chunk] },
    }));
    const head = resources.use(allocateLogits(backend, B, V));
    this.#results = tensors.results;
    this.#prefillTokens = tensors.prefillTokens;
    const drawn = {
      tokens: carve(tensors.results, "tokens", { dtype: "i32", shape: [B] }, 0),
      logProbs: carve(
        tensors.results,
        "log-probabilities",
        { dtype: "f32", shape: [B] },
        this.#logProbOffset,
      ),
    };
    const lanes = (start: number, end: number): Lanes => ({
      cache: cacheOfSequences(cache, start, end),
      tokens: rows(drawn.tokens, start, end),
      positions: rows(tensors.positions, start, end),
      logProbs: rows(drawn.logProbs, start, end),
      head: logitsOfRows(head, start, end),
      seen: rows(tensors.seen, start, end),
      rng: rows(tensors.rng, start, end),
    });
    const id = crypto.randomUUID();
    this.#slots = Array.from({ length: B }, (_, slot) => lanes(slot, slot + 1));
    this.#steps = Array.from({ length: B }, (_, last) => {
      const all = lanes(0, last + 1);
      const acts = { ...this.#plan.at(last + 1, 1), positions: all.positions };
      return { key: `decode ${id} ${last + 1}`, record: () => this.#decode(all, acts) };
    });
    this.#positions = Int32Array.from({ length: S }, (_, position) => position);
    this.#counts = new Int32Array(V);
    this.#resources = resources.move();
  }

  /**
   * Enqueues the passage of a prompt through the model in a slot, and the drawing of its first token. `stream` chooses
   * one of the seed's independent random streams.
   * @throws {RangeError} for a prompt that is empty, leaves no room for a token, or holds ids the model does not have.
   */
  start(slot: number, prompt: Int32Array, seed: number, stream: number): void {
    this.#check(prompt);
    const lane = this.#slots[slot], { backend } = this;
    const length = prompt.length, chunk = this.#prefillTokens.shape[0];
    for (let from = 0; from < length; from += chunk) {
      const to = Math.min(from + chunk, length);
      const acts = this.#plan.at(1, to - from);
      const tokens = rows(this.#prefillTokens, 0, to - from);
      backend.write(tokens, prompt.subarray(from, to));
      backend.write(acts.positions, this.#positions.subarray(from, to));
      forward(this.#model, tokens, acts, lane.cache);
      if (to === length) headLogitsInF32(this.#model, lane.head, lastRow(acts.hidden));
    }
    this.#counts.fill(0);
    for (const id of prompt) this.#counts[id]++;
    backend.write(lane.seen, this.#counts);
    backend.write(lane.rng, Int32Array.of(seed, seed / 2 ** 32, stream));
    backend.write(lane.positions, this.#positions.subarray(length - 1, length));
    this.#draw(lane);
  }

  /** Enqueues one token more for the first `count` slots; each must have room for it in the context. */
  step(count: number): void {
    const { key, record } = this.#steps[count - 1];
    this.backend.replay(key, record);
  }

  /** Enqueues that a slot without a sequence begins anew, so that steps on it stay within the context. */
  clear(slot: number): void {
    this.backend.write(this.#slots[slot].positions, this.#positions.subarray(0, 1));
  }

  /** What was drawn last, as of the work enqueued so far. */
  async read(): Promise<DrawnTokens> {
    const bytes = await this.backend.read(this.#results);
    return {
      ids: new Int32Array(bytes, 0, this.batchSize),
      logProbs: new Float32Array(bytes, this.#logProbOffset, this.batchSize),
    };
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }

  #decode(lanes: Lanes, acts: Activations): void {
    forward(this.#model, lanes.tokens, acts, lanes.cache);
    headLogitsInF32(this.#model, lanes.head, acts.hidden);
    this.#draw(lanes);
  }

  #draw(lanes: Lanes): void {
    const { tokens, positions, logProbs, head: { logits }, seen, rng } = lanes;
    const counted = this.#sampling.repetitionPenalty === 1 ? null : seen;
    this.backend.sampleToken(tokens, positions, logProbs, logits, counted, rng, this.#sampling);
  }

  #check(prompt: Int32Array): void {
    if (prompt.length === 0 || prompt.length >= this.contextLength) {
      throw new RangeError(
        `Cannot continue ${prompt.length} tokens: expected 1 to ${this.contextLength - 1}`,
      );
    }
    const wrong = prompt.find((id) => id < 0 || id >= this.vocabSize);
    if (wrong !== undefined) {
      throw new RangeError(
        `Cannot continue a prompt with token ${wrong}: the model has ids from 0 to ${
          this.vocabSize - 1
        }`,
      );
    }
  }
}

/** The last of the rows (1, T, C), as (1, C). */
function lastRow(hidden: Tensor): Tensor {
  const [, T, C] = hidden.shape;
  return rows(reshape(hidden, [T, C]), T - 1, T);
}
