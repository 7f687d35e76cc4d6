// Training samples by their global index: source, epoch, block, tokens. There is no state: resuming is asking for a later
// index, and the order knows nothing of devices or processes.

import { UsageError } from "../core/errors.ts";
import type { PackedTokens } from "../io/packed_stream.ts";
import { Mixture } from "./mixture.ts";
import { BlockOrder } from "./shuffle.ts";

/** Tokens that are shuffled among each other, and the reach of reads: 8 chunk files, as in the original. */
const WINDOW_TOKENS = 1 << 24;

/** Training tokens of one source and its share of the samples. */
export interface LoaderSource {
  readonly name: string;
  readonly tokens: PackedTokens;
  readonly share: number;
}

/**
 * Sequences of T tokens from several sources. Borrows the streams of tokens.
 *
 * The chunk files of a source are one stream that is read in a circle. A block takes T + 1 tokens and the next one
 * begins T further on, so the last target of a block is the first input of the next and every token is a target. (The
 * original went on by T + 1: one token in 2,049 was never a target.) An epoch is as many whole blocks as fit into the
 * stream; the next epoch begins where the last one ended, so the rest of a stream is not lost but comes first.
 */
export class SampleLoader {
  readonly sequenceLength: number;
  readonly #sources: readonly LoaderSource[];
  readonly #mixture: Mixture;
  readonly #orders: readonly BlockOrder[];
  readonly #block: Int32Array; //   (T + 1)
  readonly #inputs: Int32Array; //  (T): all but the last
  readonly #targets: Int32Array; // (T): all but the first

  /** @throws {UsageError} when a source is too short for one sequence. */
  constructor(
    sources: readonly LoaderSource[],
    sequenceLength: number,
    seed: number,
    windowTokens = WINDOW_TOKENS,
  ) {
    for (const { name, tokens } of sources) checkLength(name, tokens.length, sequenceLength);
    this.sequenceLength = sequenceLength;
    this.#sources = sources;
    this.#mixture = new Mixture(sources.map(({ share }) => share));
    const windowBlocks = Math.max(1, Math.floor(windowTokens / sequenceLength));
    this.#orders = sources.map(({ name, tokens }) =>
      new BlockOrder(Math.floor(tokens.length / sequenceLength), windowBlocks, seed, name)
    );
    this.#block = new Int32Array(sequenceLength + 1);
    this.#inputs = this.#block.subarray(0, sequenceLength);
    this.#targets = this.#block.subarray(1);
  }

  /** Writes `count` sequences from `firstIndex` on: tokens and, one position later, targets; (count, T) each. */
  batch(firstIndex: number, count: number, inputs: Int32Array, targets: Int32Array): void {
    for (let i = 0; i < count; i++) {
      const source = this.#mixture.sourceOf(firstIndex + i);
      this.#readBlock(source, this.#positionOf(source, this.#mixture.numberOf(firstIndex + i)));
      inputs.set(this.#inputs, i * this.sequenceLength);
      targets.set(this.#targets, i * this.sequenceLength);
    }
  }

  /** Where a sample comes from, for people: source, epoch, place in it, and its first token in a chunk file. */
  describe(globalIndex: number): string {
    const source = this.#mixture.sourceOf(globalIndex);
    const number = this.#mixture.numberOf(globalIndex);
    const { name, tokens } = this.#sources[source];
    const { blocks } = this.#orders[source];
    const place = tokens.describe(this.#positionOf(source, number));
    return `source "${name}", epoch ${Math.floor(number / blocks) + 1}, sequence ` +
      `${number % blocks + 1} of ${blocks}, from ${place}`;
  }

  /** The position in its source's stream where the source's sample `number` begins. */
  #positionOf(source: number, number: number): number {
    const order = this.#orders[source];
    const place = number % order.blocks;
    const epoch = (number - place) / order.blocks;
    const block = epoch * order.blocks + order.blockAt(epoch, place);
    return block * this.sequenceLength % this.#sources[source].tokens.length;
  }

  #readBlock(source: number, position: number): void {
    const { tokens } = this.#sources[source];
    const count = this.sequenceLength + 1;
    const first = Math.min(count, tokens.length - position);
    tokens.read(position, this.#block, 0, first);
    if (first < count) tokens.read(0, this.#block, first, count - first);
  }
}

function checkLength(name: string, found: number, sequenceLength: number): void {
  if (found > sequenceLength) return;
  throw new UsageError(
    `Cannot train on source "${name}": it has ${found} tokens, expected at least ` +
      `${sequenceLength + 1} for sequences of ${sequenceLength}; prepare more text, or lower ` +
      "data.sequence_length",
  );
}
