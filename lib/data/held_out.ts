// Held-out tokens of one source in their own order, for validation: nothing is shuffled, nothing comes twice.

import type { PackedTokens } from "../io/packed_stream.ts";

/** Tokens and targets (count, T). */
export interface TokenBatch {
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
}

/** A source's held-out text. Borrows the stream of tokens. */
export class HeldOutTokens {
  readonly name: string;
  readonly #tokens: PackedTokens;
  readonly #sequenceLength: number;

  constructor(name: string, tokens: PackedTokens, sequenceLength: number) {
    this.name = name;
    this.#tokens = tokens;
    this.#sequenceLength = sequenceLength;
  }

  /**
   * Batches of `count` sequences from the start. Every token but the first is a target once; what the last batch lacks is
   * filled up with inputs of 0 and targets of -1. A batch is valid until the next one.
   */
  *batches(count: number): Generator<TokenBatch> {
    const size = count * this.#sequenceLength;
    const last = this.#tokens.length - 1;
    const inputs = new Int32Array(size);
    const targets = new Int32Array(size);
    for (let first = 0; first < last; first += size) {
      const present = Math.min(size, last - first);
      this.#tokens.read(first, inputs, 0, present);
      this.#tokens.read(first + 1, targets, 0, present);
      inputs.fill(0, present);
      targets.fill(-1, present);
      yield { inputs, targets };
    }
  }
}
