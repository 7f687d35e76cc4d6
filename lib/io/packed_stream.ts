// Chunk files of packed tokens as one stream with random access, and the headers of single files.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { FormatError } from "../core/errors.ts";
import {
  ELEMENTS,
  HEADER_BYTES,
  type PackedDType,
  type PackedHeader,
  parseHeader,
} from "./packed_tokens.ts";

/**
 * Reads and checks the header of a chunk file against the file's size.
 * @throws {FormatError} naming what is not as the format says.
 */
export function readPackedHeader(path: string): PackedHeader {
  const opened = openFile(path);
  closeSync(opened.handle);
  return opened.header;
}

interface OpenFile {
  readonly handle: number;
  readonly header: PackedHeader;
}

function openFile(path: string): OpenFile {
  const handle = openToRead(path);
  try {
    const bytes = new Uint8Array(HEADER_BYTES);
    const count = readSync(handle, bytes, 0, HEADER_BYTES, 0);
    const header = parseHeader(bytes.subarray(0, count), fstatSync(handle).size, path);
    return { handle, header };
  } catch (error) {
    closeSync(handle);
    throw error;
  }
}

function openToRead(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    throw new FormatError(`Cannot read "${path}": there is no such file`);
  }
}

/** Fills the first `count` bytes of `into` from byte `position` of a file on. */
function readExactly(file: OpenFile, path: string, position: number, into: Uint8Array, n: number) {
  for (let done = 0; done < n;) {
    const count = readSync(file.handle, into, done, n - done, position + done);
    if (count === 0) {
      throw new FormatError(
        `Cannot read "${path}": it ends at byte ${position + done}, expected ${n - done} more`,
      );
    }
    done += count;
  }
}

/** Where the tokens of a stream lie: a chunk file and how many it should have. */
export interface PackedPart {
  readonly path: string;
  readonly tokens: number;
  /** How many more there should be at its end, which are no part of the stream. Default 0. */
  readonly padding?: number;
}

/** Files kept open at once; a window of the training order touches fewer. */
const MAX_OPEN_FILES = 32;

/**
 * The tokens of many chunk files as one stream with random access. Files are opened when first read, a bounded number at
 * a time. Disposing closes them.
 */
export class PackedTokens implements Disposable {
  /** Tokens in all files. */
  readonly length: number;
  readonly #parts: readonly PackedPart[];
  readonly #starts: Float64Array; // (files + 1): position of each file's first token
  readonly #vocabSize: number;
  readonly #open = new Map<number, OpenFile>(); // least recently used first
  #scratch = scratchOf(1 << 14);

  /** `vocabSize` bounds the ids that are read. Touches no file. */
  constructor(parts: readonly PackedPart[], vocabSize: number) {
    this.#parts = parts;
    this.#vocabSize = vocabSize;
    this.#starts = new Float64Array(parts.length + 1);
    parts.forEach(({ tokens }, i) => this.#starts[i + 1] = this.#starts[i] + tokens);
    this.length = this.#starts[parts.length];
  }

  /** Files open at the moment. */
  get openFiles(): number {
    return this.#open.size;
  }

  /**
   * Writes the `count` tokens from position `first` on into `into` from `at` on.
   * @throws {FormatError} when a file is not there, damaged, of another length than stated, or has an id outside the
   * vocabulary.
   */
  read(first: number, into: Int32Array, at: number, count: number): void {
    if (first < 0 || count < 0 || first + count > this.length || at + count > into.length) {
      throw new RangeError(
        `Cannot read tokens ${first} to ${first + count} into ${into.length - at} places: ` +
          `there are ${this.length}`,
      );
    }
    let index = this.fileAt(first);
    for (let done = 0; done < count; index++) {
      const offset = first + done - this.#starts[index];
      const part = Math.min(count - done, this.#parts[index].tokens - offset);
      this.#readFrom(index, offset, into, at + done, part);
      done += part;
    }
  }

  /** Index of the file that has the token at `position`. */
  fileAt(position: number): number {
    let low = 0, high = this.#parts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle] <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Where a token is, for people: file name and place in it. */
  describe(position: number): string {
    const index = this.fileAt(position);
    return `"${this.#parts[index].path}" token ${position - this.#starts[index]}`;
  }

  #readFrom(index: number, offset: number, into: Int32Array, at: number, count: number): void {
    const file = this.#fileOf(index);
    const { path } = this.#parts[index];
    const { dtype } = file.header;
    const { bytes } = ELEMENTS[dtype];
    if (this.#scratch.u8.length < count * bytes) this.#scratch = scratchOf(count * bytes);
    readExactly(file, path, HEADER_BYTES + offset * bytes, this.#scratch.u8, count * bytes);
    const wrong = widen(this.#scratch, dtype, into, at, count, this.#vocabSize);
    if (wrong < 0) return;
    const found = dtype === "i64" ? this.#scratch.i64[wrong] : into[at + wrong];
    throw new FormatError(
      `Cannot read "${path}": token ${offset + wrong} is ${found}, ` +
        `expected an id from 0 to ${this.#vocabSize - 1}`,
    );
  }

  #fileOf(index: number): OpenFile {
    const known = this.#open.get(index);
    if (known !== undefined) {
      this.#open.delete(index);
      this.#open.set(index, known);
      return known;
    }
    for (const [oldest, { handle }] of this.#open) {
      if (this.#open.size < MAX_OPEN_FILES) break;
      closeSync(handle);
      this.#open.delete(oldest);
    }
    const { path, tokens, padding = 0 } = this.#parts[index];
    const file = openFile(path);
    if (file.header.tokens !== tokens + padding) {
      closeSync(file.handle);
      throw new FormatError(
        `Cannot read "${path}": it has ${file.header.tokens} tokens, expected ${tokens + padding}`,
      );
    }
    this.#open.set(index, file);
    return file;
  }

  [Symbol.dispose](): void {
    for (const { handle } of this.#open.values()) closeSync(handle);
    this.#open.clear();
  }
}

/** The same bytes as every element type. */
interface Scratch {
  readonly u8: Uint8Array;
  readonly i8: Int8Array;
  readonly u16: Uint16Array;
  readonly i16: Int16Array;
  readonly i32: Int32Array;
  readonly i64: BigInt64Array;
}

function scratchOf(byteLength: number): Scratch {
  const bytes = new ArrayBuffer(Math.ceil(byteLength / 8) * 8);
  return {
    u8: new Uint8Array(bytes),
    i8: new Int8Array(bytes),
    u16: new Uint16Array(bytes),
    i16: new Int16Array(bytes),
    i32: new Int32Array(bytes),
    i64: new BigInt64Array(bytes),
  };
}

/** Converts tokens to i32; returns the index of the first one outside the vocabulary, or -1. */
function widen(
  from: Scratch,
  dtype: PackedDType,
  into: Int32Array,
  at: number,
  count: number,
  vocabSize: number,
): number {
  if (dtype === "i64") return narrow(from.i32, into, at, count, vocabSize);
  const tokens = from[dtype];
  let wrong = -1;
  for (let i = 0; i < count; i++) {
    const id = tokens[i];
    if ((id < 0 || id >= vocabSize) && wrong < 0) wrong = i;
    into[at + i] = id;
  }
  return wrong;
}

/** `widen` of 64-bit tokens, given as pairs of low and high words. */
function narrow(
  words: Int32Array,
  into: Int32Array,
  at: number,
  count: number,
  vocabSize: number,
): number {
  for (let i = 0; i < count; i++) {
    const low = words[2 * i];
    if (words[2 * i + 1] !== 0 || low < 0 || low >= vocabSize) return i;
    into[at + i] = low;
  }
  return -1;
}
