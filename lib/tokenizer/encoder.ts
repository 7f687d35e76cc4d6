// Bytes to ids. The text is cut at the boundaries no merge can cross (character_table.ts), each
// chunk is looked up in the cache or merged. Works on UTF-8 directly: bytes that are not valid
// UTF-8 become byte pieces. Prefixes, literals and BOS are tokenizer.ts's affair.

import { ALONE, CharacterTable } from "./character_table.ts";
import { ChunkCache, MAX_CACHED_BYTES } from "./chunk_cache.ts";
import { Merger } from "./merger.ts";
import type { PairTable } from "./pair_table.ts";
import type { Vocabulary } from "./vocabulary.ts";

const HASH_SEED = 0x811c9dc5;
const HASH_FACTOR = 0x01000193;

/** Encodes running text; owns the cache and scratch memory, so one encoder serves one thread. */
export class Encoder {
  readonly #vocabulary: Vocabulary;
  readonly #characters: CharacterTable;
  readonly #merger: Merger;
  readonly #cache = new ChunkCache();
  readonly #utf8 = new TextEncoder();
  #first = 0;

  /** `keepsMetaspace`: see {@linkcode CharacterTable}. */
  constructor(vocabulary: Vocabulary, pairs: PairTable, keepsMetaspace: boolean) {
    this.#vocabulary = vocabulary;
    this.#characters = new CharacterTable(vocabulary, keepsMetaspace);
    this.#merger = new Merger(pairs);
  }

  /** Steps of the merge loop so far; see {@linkcode Merger.steps}. */
  get steps(): number {
    return this.#merger.steps;
  }

  /**
   * Writes the ids of bytes `start` to `end` from `ids[at]` on and returns the position after the
   * last. There must be room for one id a byte.
   */
  encode(bytes: Uint8Array, start: number, end: number, ids: Int32Array, at: number): number {
    const characters = this.#characters;
    const { asciiIds, asciiJoins } = characters;
    this.#first = at;
    let position = start;
    while (position < end) {
      const chunk = position;
      let previous = bytes[position];
      let hash = Math.imul(HASH_SEED ^ previous, HASH_FACTOR);
      if (previous < 128) {
        position++;
      } else {
        const code = readCodePoint(bytes, position, end);
        previous = code < 0 ? ALONE : characters.classOf(code);
        const after = code < 0 ? position + 1 : position + byteLengthOf(code);
        if (previous === ALONE) {
          at = this.#emitCharacter(bytes, position, after, code, ids, at);
          position = after;
          continue;
        }
        for (position++; position < after; position++) {
          hash = Math.imul(hash ^ bytes[position], HASH_FACTOR);
        }
      }
      while (position < end) {
        const byte = bytes[position];
        if ((byte | previous) < 128) {
          if (asciiJoins[previous << 7 | byte] === 0) break;
          hash = Math.imul(hash ^ byte, HASH_FACTOR);
          previous = byte;
          position++;
          continue;
        }
        const code = byte < 128 ? byte : readCodePoint(bytes, position, end);
        if (code < 0) break;
        const next = code < 128 ? code : characters.classOf(code);
        if (!characters.joins(previous, next)) break;
        previous = next;
        const after = position + byteLengthOf(code);
        for (; position < after; position++) {
          hash = Math.imul(hash ^ bytes[position], HASH_FACTOR);
        }
      }
      if (position - chunk === 1) {
        const id = asciiIds[previous];
        if (id >= 0) ids[at++] = id;
        else at = this.#emitCharacter(bytes, chunk, position, previous, ids, at);
        continue;
      }
      if (position - chunk > MAX_CACHED_BYTES) {
        at = this.#mergeChunk(bytes, chunk, position, ids, at);
        continue;
      }
      const known = this.#cache.get(bytes, chunk, position, hash, ids, at);
      at = known >= 0 ? known : this.#learnChunk(bytes, chunk, position, hash, ids, at);
    }
    return at;
  }

  #learnChunk(
    bytes: Uint8Array,
    start: number,
    end: number,
    hash: number,
    ids: Int32Array,
    at: number,
  ): number {
    const after = this.#mergeChunk(bytes, start, end, ids, at);
    // Whether an unknown id appears can depend on what stands before the chunk.
    const { unkId } = this.#vocabulary;
    if (after > at && !ids.subarray(at, after).includes(unkId)) {
      this.#cache.add(bytes, start, end, hash, ids, at, after);
    }
    return after;
  }

  /** A chunk of several characters, all of which have ids. */
  #mergeChunk(bytes: Uint8Array, start: number, end: number, ids: Int32Array, at: number): number {
    const characters = this.#characters;
    const row = this.#merger.row(end - start);
    let length = 0;
    for (let position = start; position < end;) {
      const byte = bytes[position];
      const code = byte < 128 ? byte : readCodePoint(bytes, position, end);
      row[length++] = characters.idOf(code);
      position += byteLengthOf(code);
    }
    length = this.#merger.merge(length);
    const { pieces, bareCharacters } = this.#vocabulary;
    for (let i = 0; i < length; i++) {
      const id = row[i];
      if (id < pieces.length) ids[at++] = id;
      else {
        const character = this.#utf8.encode(bareCharacters[id - pieces.length]);
        at = this.#emitBytes(character, 0, character.length, ids, at);
      }
    }
    return at;
  }

  /**
   * One character that merges with nothing beside it; `code` is -1 for a byte that is not valid
   * UTF-8.
   */
  #emitCharacter(
    bytes: Uint8Array,
    start: number,
    end: number,
    code: number,
    ids: Int32Array,
    at: number,
  ): number {
    const id = code < 0 ? -1 : this.#characters.idOf(code);
    if (id < 0 || id >= this.#vocabulary.pieces.length) {
      return this.#emitBytes(bytes, start, end, ids, at);
    }
    ids[at] = id;
    return at + 1;
  }

  /** Byte pieces, or the unknown piece where the vocabulary has none. */
  #emitBytes(bytes: Uint8Array, start: number, end: number, ids: Int32Array, at: number): number {
    const { byteIds } = this.#characters;
    if (byteIds !== null) {
      for (let i = start; i < end; i++) ids[at++] = byteIds[bytes[i]];
      return at;
    }
    const { unkId, isUnknownFused } = this.#vocabulary;
    if (isUnknownFused && at > this.#first && ids[at - 1] === unkId) return at;
    ids[at] = unkId;
    return at + 1;
  }
}

function byteLengthOf(code: number): number {
  return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

/**
 * The code point of the multi-byte sequence at `at`, or -1 when it is malformed, overlong, a
 * surrogate or cut off.
 */
function readCodePoint(bytes: Uint8Array, at: number, end: number): number {
  const lead = bytes[at];
  if (lead < 0xc2 || lead > 0xf4) return -1;
  if (at + 1 >= end) return -1;
  const second = bytes[at + 1];
  if ((second & 0xc0) !== 0x80) return -1;
  if (lead < 0xe0) return (lead & 0x1f) << 6 | second & 0x3f;
  if (at + 2 >= end) return -1;
  const third = bytes[at + 2];
  if ((third & 0xc0) !== 0x80) return -1;
  if (lead < 0xf0) {
    const code = (lead & 0x0f) << 12 | (second & 0x3f) << 6 | third & 0x3f;
    return code < 0x800 || (code >= 0xd800 && code < 0xe000) ? -1 : code;
  }
  if (at + 3 >= end) return -1;
  const fourth = bytes[at + 3];
  if ((fourth & 0xc0) !== 0x80) return -1;
  const code = (lead & 0x07) << 18 | (second & 0x3f) << 12 | (third & 0x3f) << 6 | fourth & 0x3f;
  return code < 0x10000 || code > 0x10ffff ? -1 : code;
}
