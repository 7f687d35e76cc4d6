// What each character is to the merges: its id, and next to which characters it can be merged at all. A boundary between
// two characters that no merge joins is a boundary between independent stretches of text, so encoder.ts cuts there.
// That cut is exact: any merge across it would itself be a merge that joins these two characters.

import { byteIds, METASPACE, type Vocabulary } from "./vocabulary.ts";

/** Class of characters that no merge touches. Classes below are ASCII characters themselves, classes above are others. */
export const ALONE = 128;

/** Read-only after construction; fields are public because the scan of encoder.ts reads them for every byte. */
export class CharacterTable {
  /** Ids of the 128 ASCII characters, or -1; the space has the id of U+2581. */
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

  /** With `keepsMetaspace`, U+2581 in a text is not a space but an unknown character, so that it survives decoding. */
  constructor(vocabulary: Vocabulary, keepsMetaspace: boolean) {
    this.byteIds = byteIds(vocabulary);
    this.#setIds(vocabulary);
    const pairs = joinedCharacters(vocabulary);
    let classCount = ALONE + 1;
    for (const pair of pairs) {
      for (const character of pair) {
        const code = character.codePointAt(0) ?? 0;
        if (code < 128 || character === METASPACE || this.classOf(code) !== ALONE) continue;
        if (code < 0x10000) this.#classes[code] = classCount++;
        else this.#astralClasses.set(code, classCount++);
      }
    }
    this.#classes[METASPACE.charCodeAt(0)] = 32;
    this.#classCount = classCount;
    this.#joins = new Uint32Array(Math.ceil(classCount * classCount / 32));
    for (const [left, right] of pairs) {
      const a = this.#classOfCharacter(left), b = this.#classOfCharacter(right);
      const bit = a * classCount + b;
      this.#joins[bit >>> 5] |= 1 << (bit & 31);
      if (a < 128 && b < 128) this.asciiJoins[a * 128 + b] = 1;
    }
    if (keepsMetaspace) {
      this.#classes[METASPACE.charCodeAt(0)] = ALONE;
      this.#ids[METASPACE.charCodeAt(0)] = -1;
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

  #classOfCharacter(character: string): number {
    const code = character.codePointAt(0) ?? 0;
    return code < 128 ? code : this.classOf(code);
  }

  #setIds(vocabulary: Vocabulary): void {
    const { pieces, kinds, bareCharacters } = vocabulary;
    for (let id = 0; id < pieces.length; id++) {
      if (kinds[id] === "normal") this.#setId(pieces[id], id);
    }
    bareCharacters.forEach((character, i) => this.#setId(character, pieces.length + i));
    this.asciiIds[32] = this.#ids[METASPACE.charCodeAt(0)];
  }

  #setId(piece: string, id: number): void {
    const code = piece.codePointAt(0) ?? 0;
    if (piece.length !== (code < 0x10000 ? 1 : 2)) return;
    if (code < 128) this.asciiIds[code] = id;
    if (code < 0x10000) this.#ids[code] = id;
    else this.#astralIds.set(code, id);
  }
}

/** Every (last character of a left part, first character of a right part), each once. */
function joinedCharacters(vocabulary: Vocabulary): Set<readonly [string, string]> {
  const { pieces, bareCharacters, merges, isSplitAtSpaces } = vocabulary;
  const text = (id: number) => id < pieces.length ? pieces[id] : bareCharacters[id - pieces.length];
  const seen = new Map<string, readonly [string, string]>();
  for (let i = 0; i < merges.left.length; i++) {
    const left = lastCharacter(text(merges.left[i])), right = firstCharacter(text(merges.right[i]));
    if (isSplitAtSpaces && right === METASPACE) continue;
    const key = left + right;
    if (!seen.has(key)) seen.set(key, [left, right]);
  }
  return new Set(seen.values());
}

function firstCharacter(text: string): string {
  return String.fromCodePoint(text.codePointAt(0) ?? 0);
}

function lastCharacter(text: string): string {
  const unit = text.charCodeAt(text.length - 1);
  return unit >= 0xdc00 && unit < 0xe000 ? text.slice(-2) : text.slice(-1);
}
