// Which sequence is in which slot of the engine: sequences that end make room for the next ones (continuous batching),
// and on an asynchronous device the next step is enqueued before a token is waited for. Where that wait is for both, the
// two tokens come together, and the step after is enqueued while the device is idle: half as often as one by one.

import { setTimeout } from "node:timers/promises";
import type { DrawnTokens, Engine } from "./engine.ts";

/** A prompt to continue. */
export interface Sequence {
  /** At least one id, and fewer than the context holds. */
  readonly prompt: Int32Array;
  /** At most this many tokens are drawn, fewer where the context ends before; at least 1. */
  readonly maxTokens: number;
  /** Which of the seed's independent random streams its tokens are drawn from. */
  readonly stream: number;
  /** Whether the sequence ends with this token. Asked once for each token, in order. */
  endsWith(id: number): boolean;
}

/** A token that was drawn. */
export interface Token<S extends Sequence> {
  readonly sequence: S;
  readonly id: number;
  /** Under the model's own distribution: temperature 1, no penalty, nothing cut off. */
  readonly logProb: number;
  /** Why it is the last: the sequence's `endsWith`, its `maxTokens`, or the context; null when it is not the last. */
  readonly end: "sequence" | "length" | "context" | null;
}

// What aborts is looked for only when the event loop has nothing to do, which a device that blocks never lets happen. A
// pause takes 2 ms.
const PAUSE_MS = 100;

export interface DecodeOptions {
  /** A whole number from 0 to 2^53 − 1. */
  readonly seed: number;
  /** Aborting ends the generator after the token in progress, without an error. */
  readonly signal?: AbortSignal;
}

/**
 * Draws tokens until every sequence has ended. Sequences are taken from the iterable when there is a slot for them, so
 * there may be any number. Tokens of one sequence come in order, those of different ones interleave. One engine serves
 * one call at a time.
 * @throws {RangeError} for a prompt that does not fit the engine; see {@linkcode Engine.start}.
 */
export async function* decode<S extends Sequence>(
  engine: Engine,
  sequences: Iterable<S>,
  options: DecodeOptions,
): AsyncGenerator<Token<S>, void, void> {
  const { signal } = options;
  const batch = new Batch(engine, sequences[Symbol.iterator](), options.seed);
  const { isAsynchronous, waitsForAll } = engine.backend.info;
  const depth = isAsynchronous ? 2 : 1, fewest = waitsForAll ? 0 : depth - 1;
  const inFlight: Pending<S>[] = [];
  let pausedMs = performance.now();
  try {
    for (;;) {
      const isFilling = inFlight.length <= fewest;
      while (isFilling && inFlight.length < depth && !signal?.aborted) {
        const pending = batch.enqueueNext();
        if (pending === null) break;
        inFlight.push(pending);
      }
      const oldest = inFlight.shift();
      if (oldest === undefined) return;
      const drawn = await oldest.drawn;
      for (const entry of oldest.entries) {
        if (!entry.isEnded) yield batch.deliver(entry, drawn);
      }
      if (signal !== undefined && performance.now() - pausedMs >= PAUSE_MS) {
        await setTimeout(0);
        pausedMs = performance.now();
      }
    }
  } finally {
    await Promise.allSettled(inFlight.map((pending) => pending.drawn));
  }
}

/** A sequence and how far it is. */
interface Entry<S extends Sequence> {
  readonly sequence: S;
  readonly slot: number;
  /** Tokens that will be drawn unless it ends by itself. */
  readonly limit: number;
  /** Tokens whose drawing is enqueued; the last results may be under way. */
  enqueued: number;
  delivered: number;
  isEnded: boolean;
}

/** Enqueued work that draws one token for each of `entries`. */
interface Pending<S extends Sequence> {
  readonly entries: readonly Entry<S>[];
  readonly drawn: Promise<DrawnTokens>;
}

class Batch<S extends Sequence> {
  readonly #engine: Engine;
  readonly #waiting: Iterator<S>;
  readonly #seed: number;
  /** By slot; null is free. */
  readonly #running: (Entry<S> | null)[];
  #hasWaiting = true;

  constructor(engine: Engine, waiting: Iterator<S>, seed: number) {
    this.#engine = engine;
    this.#waiting = waiting;
    this.#seed = seed;
    this.#running = new Array(engine.batchSize).fill(null);
  }

  /** Enqueues a prompt if one waits and a slot is free, else a step of all running sequences; null when none is left. */
  enqueueNext(): Pending<S> | null {
    const slot = this.#hasWaiting ? this.#running.indexOf(null) : -1;
    if (slot >= 0) {
      const { value, done } = this.#waiting.next();
      if (!done) return this.#start(value, slot);
      this.#hasWaiting = false;
    }
    const entries = this.#running.filter((entry) => entry !== null);
    return entries.length === 0 ? null : this.#step(entries);
  }

  #start(sequence: S, slot: number): Pending<S> {
    const room = this.#engine.contextLength - sequence.prompt.length;
    const limit = Math.min(sequence.maxTokens, room);
    const entry = { sequence, slot, limit, enqueued: 0, delivered: 0, isEnded: false };
    this.#engine.start(slot, sequence.prompt, this.#seed, sequence.stream);
    this.#running[slot] = entry;
    return this.#pending([entry]);
  }

  #step(entries: readonly Entry<S>[]): Pending<S> {
    this.#engine.step(this.#running.findLastIndex((entry) => entry !== null) + 1);
    return this.#pending(entries);
  }

  #pending(entries: readonly Entry<S>[]): Pending<S> {
    const drawn = this.#engine.read();
    // A failure is thrown where the tokens are awaited, which may be a step later.
    drawn.catch(() => {});
    for (const entry of entries) {
      entry.enqueued++;
      // Known before the result is: a next step must not go beyond the context.
      if (entry.enqueued === entry.limit) this.#free(entry);
    }
    return { entries, drawn };
  }

  #free(entry: Entry<S>): void {
    if (this.#running[entry.slot] !== entry) return;
    this.#running[entry.slot] = null;
    this.#engine.clear(entry.slot);
  }

  deliver(entry: Entry<S>, drawn: DrawnTokens): Token<S> {
    const { sequence, slot, limit } = entry;
    const id = drawn.ids[slot];
    entry.delivered++;
    let end: Token<S>["end"] = null;
    if (sequence.endsWith(id)) end = "sequence";
    else if (entry.delivered === limit) end = limit === sequence.maxTokens ? "length" : "context";
    if (end !== null) {
      entry.isEnded = true;
      this.#free(entry);
    }
    return { sequence, id, logProb: drawn.logProbs[slot], end };
  }
}
