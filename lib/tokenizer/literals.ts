// Finds literals (control tokens, added tokens, user-defined pieces) in a text before anything is
// merged.

import type { Literal } from "./vocabulary.ts";

interface LiteralBytes {
  readonly bytes: Uint8Array;
  readonly id: number;
}

/** Where a literal stands: `start` included, `end` excluded. */
export interface LiteralMatch {
  readonly id: number;
  readonly start: number;
  readonly end: number;
}

/**
 * A set of literals to search for; the leftmost match wins, the longest among those that start
 * there.
 */
export class LiteralSet {
  readonly #byFirstByte = new Map<number, LiteralBytes[]>();

  /** Empty literals are left out. */
  constructor(literals: readonly Literal[]) {
    const utf8 = new TextEncoder();
    for (const { text, id } of literals) {
      const bytes = utf8.encode(text);
      if (bytes.length === 0) continue;
      const sameStart = this.#byFirstByte.get(bytes[0]) ?? [];
      sameStart.push({ bytes, id });
      sameStart.sort((a, b) => b.bytes.length - a.bytes.length);
      this.#byFirstByte.set(bytes[0], sameStart);
    }
  }

  /** True when there is nothing to find. */
  get isEmpty(): boolean {
    return this.#byFirstByte.size === 0;
  }

  /** The first match in bytes `start` to `end`, or null. */
  find(bytes: Uint8Array, start: number, end: number): LiteralMatch | null {
    for (let at = start; at < end; at++) {
      const candidates = this.#byFirstByte.get(bytes[at]);
      if (candidates === undefined) continue;
      for (const literal of candidates) {
        const length = literal.bytes.length;
        if (at + length > end) continue;
        let i = 1;
        while (i < length && literal.bytes[i] === bytes[at + i]) i++;
        if (i === length) return { id: literal.id, start: at, end: at + length };
      }
    }
    return null;
  }
}
