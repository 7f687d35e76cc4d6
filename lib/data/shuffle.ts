// The order of a source's blocks: another permutation in every epoch, computed and not stored. Windows of neighbouring
// blocks come in random order, and so do the blocks of a window, so reads stay within a window.

import { createHash } from "node:crypto";
import { philox } from "../core/rng.ts";

const ROUNDS = 6;
/** Where the order of windows is meant and not the order within one. */
const NO_WINDOW = 0xffffffff;

/** Permutations of one source's blocks. */
export class BlockOrder {
  readonly blocks: number;
  readonly #windowBlocks: number;
  readonly #windows: number;
  readonly #permutation: Permutation;

  /** `blocks` and `windowBlocks` are at least 1 and at most 2^32. The order depends on the source by its name alone. */
  constructor(blocks: number, windowBlocks: number, seed: number, sourceName: string) {
    this.blocks = blocks;
    this.#windowBlocks = windowBlocks;
    this.#windows = Math.ceil(blocks / windowBlocks);
    const nameKey = createHash("sha256").update(sourceName).digest().readUInt32LE(0);
    this.#permutation = new Permutation(seed, nameKey);
  }

  /** The block in place `place` of an epoch; over all places each block comes once. */
  blockAt(epoch: number, place: number): number {
    const size = this.#windowBlocks;
    const order = this.#permutation.of(this.#windows, epoch, NO_WINDOW);
    // The last window may be shorter than the others, and wherever it comes, what follows it moves up.
    const lastWindow = this.#windows - 1;
    const lastSize = this.blocks - lastWindow * size;
    const lastSlot = order.placeOf(lastWindow);
    const missing = place < lastSlot * size + lastSize ? 0 : size - lastSize;
    const slot = Math.floor((place + missing) / size);
    const offset = place + missing - slot * size;
    const window = order.at(slot);
    const windowSize = window === lastWindow ? lastSize : size;
    return window * size + this.#permutation.of(windowSize, epoch, window).at(offset);
  }
}

/**
 * Random permutations of 0 … size − 1 by a Feistel network over the next power of four, walked until the value falls
 * below `size` (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
 */
class Permutation {
  readonly #seed: number;
  readonly #nameKey: number;
  readonly #words = new Uint32Array(4);
  #size = 1;
  #halfBits = 1;
  #epoch = 0;
  #window = 0;

  constructor(seed: number, nameKey: number) {
    this.#seed = seed;
    this.#nameKey = nameKey;
  }

  /** Chooses a permutation; valid until the next choice. */
  of(size: number, epoch: number, window: number): this {
    this.#size = size;
    this.#halfBits = Math.max(1, Math.ceil(Math.log2(size) / 2));
    this.#epoch = epoch;
    this.#window = window;
    return this;
  }

  /** The value in a place. */
  at(place: number): number {
    let value = place;
    do value = this.#forward(value); while (value >= this.#size);
    return value;
  }

  /** The place of a value. */
  placeOf(value: number): number {
    let place = value;
    do place = this.#backward(place); while (place >= this.#size);
    return place;
  }

  #forward(value: number): number {
    const half = 2 ** this.#halfBits;
    let left = Math.floor(value / half), right = value % half;
    for (let round = 0; round < ROUNDS; round++) {
      const mixed = (left ^ this.#mask(right, round)) >>> 0;
      left = right;
      right = mixed;
    }
    return left * half + right;
  }

  #backward(value: number): number {
    const half = 2 ** this.#halfBits;
    let left = Math.floor(value / half), right = value % half;
    for (let round = ROUNDS - 1; round >= 0; round--) {
      const mixed = (right ^ this.#mask(left, round)) >>> 0;
      right = left;
      left = mixed;
    }
    return left * half + right;
  }

  #mask(half: number, round: number): number {
    const key = (this.#nameKey ^ Math.floor(this.#seed / 2 ** 32)) >>> 0;
    philox(this.#words, this.#seed, key, half, round, this.#epoch, this.#window);
    return this.#words[0] >>> (32 - this.#halfBits);
  }
}
