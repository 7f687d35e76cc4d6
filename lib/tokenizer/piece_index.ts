// Ids of pieces by their text, looked up by ranges of a longer text. It exists for loading: a
// vocabulary's merges take some 200,000 look-ups, and slicing a string for each of them costs more
// than everything else.

/** A hash table over UTF-16 units; of equal texts the first one added counts. */
export class PieceIndex {
  readonly #slots: Int32Array;
  readonly #mask: number;
  readonly #texts: string[] = [];
  readonly #ids: number[] = [];

  /** Room for `count` texts. */
  constructor(count: number) {
    let capacity = 16;
    while (capacity < count * 2) capacity *= 2;
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(capacity).fill(-1);
  }

  /** @throws {RangeError} when there is no room left. */
  add(text: string, id: number): void {
    if (this.#texts.length * 2 > this.#mask) {
      throw new RangeError(`Cannot add piece ${id}: the index has room for ${this.#texts.length}`);
    }
    let at = hashRange(text, 0, text.length) & this.#mask;
    while (this.#slots[at] >= 0) at = (at + 1) & this.#mask;
    this.#slots[at] = this.#texts.length;
    this.#texts.push(text);
    this.#ids.push(id);
  }

  /** The id of the units `start` to `end` of `text`, or -1. */
  find(text: string, start: number, end: number): number {
    const length = end - start;
    let at = hashRange(text, start, end) & this.#mask;
    for (;;) {
      const entry = this.#slots[at];
      if (entry < 0) return -1;
      const known = this.#texts[entry];
      if (known.length === length) {
        let i = 0;
        while (i < length && known.charCodeAt(i) === text.charCodeAt(start + i)) i++;
        if (i === length) return this.#ids[entry];
      }
      at = (at + 1) & this.#mask;
    }
  }
}

function hashRange(text: string, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash ^ (hash >>> 15);
}
