// The merge loop of byte pair encoding on a row of ids: the pair of lowest rank first, the leftmost
// among equals. A scan serves short rows, a heap long ones (n log n); both give the same result.

import type { PairTable } from "./pair_table.ts";

const NEVER = 0x7fffffff;
/** Up to here repeated scans are quicker than the heap. */
const MAX_SCANNED = 40;
/** A heap key is rank · 2^32 + position, exact in a double while ranks stay below 2^21. */
const POSITION_RANGE = 4294967296;

/**
 * Owns the scratch arrays of the loop; `ids` is where the caller writes a row and finds the result.
 */
export class Merger {
  readonly #pairs: PairTable;
  readonly #maxScanned: number;
  #ids = new Int32Array(256);
  #ranks = new Int32Array(256);
  #merged = new Int32Array(256);
  #next = new Int32Array(0);
  #previous = new Int32Array(0);
  #heap = new Float64Array(0);
  #heapSize = 0;
  #steps = 0;

  /**
   * `maxScanned` overrides from which length on the heap is used, so that tests can compare the two
   * ways.
   */
  constructor(pairs: PairTable, maxScanned = MAX_SCANNED) {
    this.#pairs = pairs;
    this.#maxScanned = maxScanned;
  }

  /** Pair look-ups and heap moves since construction: the cost, independent of the machine. */
  get steps(): number {
    return this.#steps;
  }

  /** The row, with room for `length` ids. Valid until a longer row is asked for. */
  row(length: number): Int32Array {
    if (length > this.#ids.length) {
      const capacity = Math.max(length, this.#ids.length * 2);
      this.#ids = new Int32Array(capacity);
      this.#ranks = new Int32Array(capacity);
      this.#merged = new Int32Array(capacity);
    }
    return this.#ids;
  }

  /** Merges the first `length` ids of the row in place and returns how many are left. */
  merge(length: number): number {
    return length <= this.#maxScanned ? this.#mergeShort(length) : this.#mergeLong(length);
  }

  /** Looks up the pair (left, right) that begins at `position`; leaves its rank in `#ranks`. */
  #rate(position: number, left: number, right: number): void {
    this.#steps++;
    const slot = this.#pairs.find(left, right);
    if (slot < 0) {
      this.#ranks[position] = NEVER;
    } else {
      this.#ranks[position] = this.#pairs.rank(slot);
      this.#merged[position] = this.#pairs.merged(slot);
    }
  }

  #mergeShort(length: number): number {
    const ids = this.#ids, ranks = this.#ranks, merged = this.#merged;
    for (let i = 0; i + 1 < length; i++) this.#rate(i, ids[i], ids[i + 1]);
    for (;;) {
      let best = NEVER, at = -1;
      for (let i = 0; i + 1 < length; i++) {
        if (ranks[i] < best) {
          best = ranks[i];
          at = i;
        }
      }
      if (at < 0) return length;
      ids[at] = merged[at];
      length--;
      for (let i = at + 1; i < length; i++) {
        ids[i] = ids[i + 1];
        ranks[i] = ranks[i + 1];
        merged[i] = merged[i + 1];
      }
      if (at > 0) this.#rate(at - 1, ids[at - 1], ids[at]);
      if (at + 1 < length) this.#rate(at, ids[at], ids[at + 1]);
    }
  }

  #mergeLong(length: number): number {
    this.#reserveLong(length);
    const ids = this.#ids, ranks = this.#ranks, next = this.#next, previous = this.#previous;
    this.#heapSize = 0;
    for (let i = 0; i < length; i++) {
      previous[i] = i - 1;
      next[i] = i + 1;
      if (i + 1 < length) this.#enqueue(i, ids[i], ids[i + 1]);
    }
    while (this.#heapSize > 0) {
      const key = this.#pop();
      const rank = Math.floor(key / POSITION_RANGE);
      const at = key - rank * POSITION_RANGE;
      if (ranks[at] !== rank) continue;
      const swallowed = next[at];
      const after = next[swallowed];
      ids[at] = this.#merged[at];
      ranks[swallowed] = NEVER;
      next[at] = after;
      if (after < length) {
        previous[after] = at;
        this.#enqueue(at, ids[at], ids[after]);
      } else {
        ranks[at] = NEVER;
      }
      const before = previous[at];
      if (before >= 0) this.#enqueue(before, ids[before], ids[at]);
    }
    let count = 0;
    for (let i = 0; i < length; i = next[i]) ids[count++] = ids[i];
    return count;
  }

  #reserveLong(length: number): void {
    if (this.#next.length >= length) return;
    const capacity = Math.max(length, this.#next.length * 2);
    this.#next = new Int32Array(capacity);
    this.#previous = new Int32Array(capacity);
    // One entry for each initial pair, then at most one more than is taken out for each merge.
    this.#heap = new Float64Array(capacity * 2);
  }

  #enqueue(position: number, left: number, right: number): void {
    this.#rate(position, left, right);
    const rank = this.#ranks[position];
    if (rank === NEVER) return;
    const heap = this.#heap;
    const key = rank * POSITION_RANGE + position;
    let at = this.#heapSize++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent] <= key) break;
      heap[at] = heap[parent];
      at = parent;
      this.#steps++;
    }
    heap[at] = key;
  }

  #pop(): number {
    const heap = this.#heap;
    const top = heap[0];
    const size = --this.#heapSize;
    const key = heap[size];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= key) break;
      heap[at] = heap[child];
      at = child;
      this.#steps++;
    }
    heap[at] = key;
    return top;
  }
}
