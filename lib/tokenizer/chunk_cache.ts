// Remembers the ids of short byte sequences, so that a word is merged once and then only looked up.
// Bounded: when it is full it starts over. Flat arrays only; nothing is allocated after
// construction.

const STRIDE = 4;
const SLOTS = 1 << 18;
const MASK = SLOTS - 1;
const MAX_ENTRIES = SLOTS >> 1;
const BYTE_CAPACITY = 1 << 21;
const ID_CAPACITY = 1 << 20;

/** Longer chunks are rarely seen twice, so they are not kept. */
export const MAX_CACHED_BYTES = 48;

/**
 * Slots of (hash, byte offset, byte length, and ids: `id` for one, or `~offset` into the list where
 * a count precedes them).
 */
export class ChunkCache {
  readonly #slots = new Int32Array(SLOTS * STRIDE);
  readonly #bytes = new Uint8Array(BYTE_CAPACITY);
  readonly #ids = new Int32Array(ID_CAPACITY);
  #entries = 0;
  #byteLength = 0;
  #idLength = 0;

  /**
   * Writes the ids kept for bytes `start` to `end` at `ids[at]`. Returns the position after them,
   * or -1 when the bytes are not known. `hash` is any function of the bytes.
   */
  get(
    source: Uint8Array,
    start: number,
    end: number,
    hash: number,
    ids: Int32Array,
    at: number,
  ): number {
    const slots = this.#slots, bytes = this.#bytes;
    const length = end - start;
    let slot = ((hash ^ (hash >>> 15)) & MASK) * STRIDE;
    for (;;) {
      const keptLength = slots[slot + 2];
      if (keptLength === 0) return -1;
      if (slots[slot] === hash && keptLength === length) {
        const offset = slots[slot + 1];
        let i = 0;
        while (i < length && bytes[offset + i] === source[start + i]) i++;
        if (i === length) break;
      }
      slot = (slot + STRIDE) & (SLOTS * STRIDE - 1);
    }
    const value = slots[slot + 3];
    if (value >= 0) {
      ids[at] = value;
      return at + 1;
    }
    const kept = this.#ids;
    const first = ~value + 1;
    const count = kept[~value];
    for (let i = 0; i < count; i++) ids[at + i] = kept[first + i];
    return at + count;
  }

  /** Keeps `ids[from]` to `ids[to]` for bytes that `get` did not know. */
  add(
    source: Uint8Array,
    start: number,
    end: number,
    hash: number,
    ids: Int32Array,
    from: number,
    to: number,
  ): void {
    const length = end - start, count = to - from;
    if (
      this.#entries === MAX_ENTRIES || this.#byteLength + length > BYTE_CAPACITY ||
      this.#idLength + count + 1 > ID_CAPACITY
    ) this.#clear();
    const slots = this.#slots;
    let slot = ((hash ^ (hash >>> 15)) & MASK) * STRIDE;
    while (slots[slot + 2] !== 0) slot = (slot + STRIDE) & (SLOTS * STRIDE - 1);
    slots[slot] = hash;
    slots[slot + 1] = this.#byteLength;
    slots[slot + 2] = length;
    for (let i = 0; i < length; i++) this.#bytes[this.#byteLength + i] = source[start + i];
    this.#byteLength += length;
    this.#entries++;
    if (count === 1) {
      slots[slot + 3] = ids[from];
      return;
    }
    slots[slot + 3] = ~this.#idLength;
    this.#ids[this.#idLength++] = count;
    for (let i = from; i < to; i++) this.#ids[this.#idLength++] = ids[i];
  }

  #clear(): void {
    this.#slots.fill(0);
    this.#entries = 0;
    this.#byteLength = 0;
    this.#idLength = 0;
  }
}
