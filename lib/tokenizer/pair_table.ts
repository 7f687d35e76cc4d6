// Which two neighbours merge into what, and how early: a flat open-addressing hash table keyed by a
// pair of ids.

import type { Merges } from "./vocabulary.ts";

const STRIDE = 4;
const EMPTY = -1;

/**
 * Slots of (left, right, rank, merged); a slot number is the index of its first word in `slots`.
 */
export class PairTable {
  readonly #slots: Int32Array;
  readonly #mask: number;

  /** Of two merges of the same pair the later counts, as in Hugging Face's lists. */
  constructor(merges: Merges) {
    let capacity = 16;
    while (capacity < merges.left.length * 2) capacity *= 2;
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(capacity * STRIDE).fill(EMPTY);
    for (let i = 0; i < merges.left.length; i++) {
      const left = merges.left[i], right = merges.right[i];
      let at = hashPair(left, right) & this.#mask;
      while (this.#slots[at * STRIDE] !== EMPTY) {
        if (this.#slots[at * STRIDE] === left && this.#slots[at * STRIDE + 1] === right) break;
        at = (at + 1) & this.#mask;
      }
      this.#slots[at * STRIDE] = left;
      this.#slots[at * STRIDE + 1] = right;
      this.#slots[at * STRIDE + 2] = merges.rank[i];
      this.#slots[at * STRIDE + 3] = merges.merged[i];
    }
  }

  /** The slot of a pair, or -1 when the two never merge. */
  find(left: number, right: number): number {
    const slots = this.#slots;
    let at = hashPair(left, right) & this.#mask;
    for (;;) {
      const slot = at * STRIDE;
      const key = slots[slot];
      if (key === left && slots[slot + 1] === right) return slot;
      if (key === EMPTY) return -1;
      at = (at + 1) & this.#mask;
    }
  }

  /** How early the pair in a slot of `find` merges: lower is earlier. */
  rank(slot: number): number {
    return this.#slots[slot + 2];
  }

  /** The id the pair in a slot of `find` becomes. */
  merged(slot: number): number {
    return this.#slots[slot + 3];
  }
}

function hashPair(left: number, right: number): number {
  const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
