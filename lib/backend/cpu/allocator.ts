// First-fit allocation with coalescing over one growing range of addresses: what malloc is for the WASM memory, where
// arenas come and go in tens, not millions. Knows addresses only, never touches memory.

/** Every block starts at a multiple of this and takes a multiple of it: a cache line, and the widest vector. */
export const ALIGNMENT = 64;

/** The next multiple of {@linkcode ALIGNMENT}. */
export function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

interface Range {
  start: number;
  end: number;
}

/** Addresses are numbers below 2^53. Free ranges are kept sorted and never touch each other. */
export class Allocator {
  readonly #free: Range[] = [];
  readonly #used = new Map<number, number>();
  #end: number;
  #usedBytes = 0;

  /** Manages [start, end); `start` is rounded up to the alignment. */
  constructor(start: number, end: number) {
    this.#end = end;
    if (alignUp(start) < end) this.#free.push({ start: alignUp(start), end });
  }

  /** Bytes handed out and not freed, padding included. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The address of `bytes` bytes, or null when no free range is long enough. */
  allocate(bytes: number): number | null {
    const size = Math.max(ALIGNMENT, alignUp(bytes));
    const index = this.#free.findIndex((range) => range.end - range.start >= size);
    if (index < 0) return null;
    const range = this.#free[index];
    const address = range.start;
    range.start += size;
    if (range.start === range.end) this.#free.splice(index, 1);
    this.#used.set(address, size);
    this.#usedBytes += size;
    return address;
  }

  /** Takes back what `allocate` returned. @throws {RangeError} for any other address. */
  free(address: number): void {
    const size = this.#used.get(address);
    if (size === undefined) throw new RangeError(`Cannot free ${address}: it is not allocated`);
    this.#used.delete(address);
    this.#usedBytes -= size;
    this.#release({ start: address, end: address + size });
  }

  /** How many more bytes at the end would let `allocate(bytes)` succeed. */
  shortfall(bytes: number): number {
    const last = this.#free.at(-1);
    const tail = last !== undefined && last.end === this.#end ? last.end - last.start : 0;
    return Math.max(0, alignUp(bytes) - tail);
  }

  /** The range now ends at `end`, which must not be lower than before. */
  grow(end: number): void {
    if (end > this.#end) this.#release({ start: this.#end, end });
    this.#end = end;
  }

  #release(range: Range): void {
    const free = this.#free;
    let index = free.findIndex((other) => other.start > range.start);
    if (index < 0) index = free.length;
    const before = free[index - 1], after = free[index];
    if (after !== undefined && after.start === range.end) {
      range.end = after.end;
      free.splice(index, 1);
    }
    if (before !== undefined && before.end === range.start) before.end = range.end;
    else free.splice(index, 0, range);
  }
}
