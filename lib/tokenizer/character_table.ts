// What each character is to the merges: its id, and next to which characters it can be merged at
// all. A boundary between two characters that no merge joins is a boundary between independent
// stretches of text, so encoder.ts cuts there. That cut is exact: any merge across it would itself
// be a merge that joins these two characters.

import { byteIds, METASPACE, type Vocabulary } from "./vocabulary.ts";

/**
 * Class of characters that no merge touches. Classes below are ASCII characters themselves, classes
 * above are others.
 */
export const ALONE = 128;

/**
 * Beyond this, characters share classes: that joins more than need be, which lengthens chunks and
 * changes no id.
 */
const MAX_CLASSES = 4096;
const SPACE = 0x20;
const METASPACE_CODE = METASPACE.charCodeAt(0);
const CODE_POINTS = 0x110000;

/**
 * Read-only after construction; fields are public because the scan of encoder.ts reads them for
 * every byte.
 */
export class CharacterTable {
  /** Ids of the ASCII characters that are pieces, or -1; the space has the id of U+2581. */
  readonly asciiIds = new Int32Array(128).fill(-1);
  /** joins[a · 128 + b] is 1 where the ASCII characters a, b may merge. */
  readonly asciiJoins = new Uint8Array(128 * 128);
  /** Ids of the byte pieces, or null when the vocabulary has none. */
  readonly byteIds: Int32Array | null;
  readonly #ids = new Int32Array(0x10000).fill(-1);
  readonly #classes = new Uint16Array(0x10000).fill(ALONE);
  readonly #astralIds = new Map<number, number>();
  readonly #astralClasses = new Map<number, number>();
  readonly #classCount: number;
  readonly #joins: Uint32Array;

  /**
   * With `keepsMetaspace`, U+2581 in a text is not a space but an unknown character, so that it
   * survives decoding.
   */
  constructor(vocabulary: Vocabulary, keepsMetaspace: boolean) {
    this.byteIds = byteIds(vocabulary);
    this.#setIds(vocabulary);
    const pairs = this.#joinedCharacters(vocabulary);
    let count = 0;
    for (const code of pairs) {
      if (code < 128 || code === METASPACE_CODE || this.classOf(code) !== ALONE) continue;
      const shared = ALONE + 1 + count++ % (MAX_CLASSES - ALONE - 1);
      if (code < 0x10000) this.#classes[code] = shared;
      else this.#astralClasses.set(code, shared);
    }
    const classCount = Math.min(MAX_CLASSES, ALONE + 1 + count);
    this.#classes[METASPACE_CODE] = SPACE;
    this.#classCount = classCount;
    this.#joins = new Uint32Array(Math.ceil(classCount * classCount / 32));
    for (let i = 0; i < pairs.length; i += 2) {
      const left = pairs[i] < 128 ? pairs[i] : this.classOf(pairs[i]);
      const right = pairs[i + 1] < 128 ? pairs[i + 1] : this.classOf(pairs[i + 1]);
      const bit = left * classCount + right;
      this.#joins[bit >>> 5] |= 1 << (bit & 31);
      if (left < 128 && right < 128) this.asciiJoins[left * 128 + right] = 1;
    }
    if (keepsMetaspace) {
      this.#classes[METASPACE_CODE] = ALONE;
      this.#ids[METASPACE_CODE] = -1;
    }
  }

  /** Id of a code point, at or above the number of pieces for a bare character, or -1. */
  idOf(code: number): number {
    return code < 0x10000 ? this.#ids[code] : this.#astralIds.get(code) ?? -1;
  }

  /** Class of a code point from 128 up. */
  classOf(code: number): number {
    return code < 0x10000 ? this.#classes[code] : this.#astralClasses.get(code) ?? ALONE;
  }

  /** Whether characters of these classes may merge when they stand side by side. */
  joins(left: number, right: number): boolean {
    const bit = left * this.#classCount + right;
    return (this.#joins[bit >>> 5] >>> (bit & 31) & 1) === 1;
  }

  #setIds(vocabulary: Vocabulary): void {
    const { pieces, kinds, bareCharacters } = vocabulary;
    for (let id = 0; id < pieces.length; id++) {
      if (kinds[id] === "normal") this.#setId(pieces[id], id);
    }
    bareCharacters.forEach((character, i) => this.#setId(character, pieces.length + i));
    this.#ids[SPACE] = this.#ids[METASPACE_CODE];
    for (let code = 0; code < 128; code++) {
      if (this.#ids[code] < pieces.length) this.asciiIds[code] = this.#ids[code];
    }
  }

  #setId(piece: string, id: number): void {
    const code = piece.codePointAt(0) ?? 0;
    if (piece.length !== (code < 0x10000 ? 1 : 2)) return;
    if (code < 0x10000) this.#ids[code] = id;
    else this.#astralIds.set(code, id);
  }

  /**
   * Code points (last of a left part, first of a right part) of all merges, laid end to end, each
   * pair once. Characters without an id are left out: they become bytes or unknown pieces, which
   * nothing merges.
   */
  #joinedCharacters(vocabulary: Vocabulary): number[] {
    const { pieces, bareCharacters, merges: { left, right }, isSplitAtSpaces } = vocabulary;
    const first: number[] = [], last: number[] = [];
    for (const text of [...pieces, ...bareCharacters]) {
      first.push(text.codePointAt(0) ?? 0);
      const unit = text.charCodeAt(text.length - 1);
      last.push(unit >= 0xdc00 && unit < 0xe000 ? text.codePointAt(text.length - 2) ?? 0 : unit);
    }
    const seen = new Set<number>();
    const pairs: number[] = [];
    for (let i = 0; i < left.length; i++) {
      const before = last[left[i]], after = first[right[i]];
      const key = before * CODE_POINTS + after;
      if (seen.has(key) || this.idOf(before) < 0 || this.idOf(after) < 0) continue;
      if (isSplitAtSpaces && after === METASPACE_CODE) continue;
      seen.add(key);
      pairs.push(before, after);
    }
    return pairs;
  }
}
