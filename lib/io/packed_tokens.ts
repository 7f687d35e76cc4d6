// LITPKDS chunk files: token ids behind a header of 24 bytes, the format of the original TinyLlama code
// (lit_gpt/packed_dataset.py): "LITPKDS", u64 version, u8 element type, u64 number of tokens, tokens; little-endian.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { FormatError } from "../core/errors.ts";

/** Bytes before the first token. */
export const HEADER_BYTES = 24;

const MAGIC = "LITPKDS";
const VERSION = 1n;
const VERSION_OFFSET = 7, CODE_OFFSET = 15, COUNT_OFFSET = 16;

/** The format's integer types: code in the header and bytes a token. Codes 6 and 7 are f32 and f64: no tokens. */
export const ELEMENTS = {
  u8: { code: 1, bytes: 1 },
  i8: { code: 2, bytes: 1 },
  i16: { code: 3, bytes: 2 },
  i32: { code: 4, bytes: 4 },
  i64: { code: 5, bytes: 8 },
  u16: { code: 8, bytes: 2 },
} as const;

/** How a token is stored. */
export type PackedDType = keyof typeof ELEMENTS;

/** The types written: two bytes where the vocabulary allows. */
export type WrittenDType = "u16" | "i32";

// The original's bound; it leaves room for ids that are added later.
const MAX_U16_VOCABULARY = 65500;

/** What a chunk file's header says. */
export interface PackedHeader {
  readonly dtype: PackedDType;
  readonly tokens: number;
}

/** A chunk file of a folder. */
export interface PackedFile {
  readonly name: string;
  readonly tokens: number;
  /** Of the whole file, in hex. */
  readonly sha256: string;
}

/** The type in which the ids of a vocabulary are written. */
export function packedDType(vocabSize: number): WrittenDType {
  return vocabSize < MAX_U16_VOCABULARY ? "u16" : "i32";
}

/** Bytes of a chunk file. */
export function packedFileBytes({ dtype, tokens }: PackedHeader): number {
  return HEADER_BYTES + tokens * ELEMENTS[dtype].bytes;
}

function encodeHeader({ dtype, tokens }: PackedHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setBigUint64(VERSION_OFFSET, VERSION, true);
  view.setUint8(CODE_OFFSET, ELEMENTS[dtype].code);
  view.setBigUint64(COUNT_OFFSET, BigInt(tokens), true);
  return bytes;
}

/**
 * Reads a header from the first bytes of a file (HEADER_BYTES, or all there are) and checks it against the file's `size`.
 * @throws {FormatError} naming what is not as the format says.
 */
export function parseHeader(bytes: Uint8Array, size: number, path: string): PackedHeader {
  const fail = (problem: string): never => {
    throw new FormatError(`Cannot read "${path}": ${problem}`);
  };
  if (bytes.length < HEADER_BYTES) {
    fail(`it has ${size} bytes, expected a LITPKDS file with a header of ${HEADER_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const magic = String.fromCharCode(...bytes.subarray(0, MAGIC.length));
  if (magic !== MAGIC) fail(`it begins with ${JSON.stringify(magic)}, expected "${MAGIC}"`);
  const version = view.getBigUint64(VERSION_OFFSET, true);
  if (version !== VERSION) fail(`its version is ${version}, expected ${VERSION}`);
  const code = view.getUint8(CODE_OFFSET);
  const dtype = dtypeOf(code);
  if (dtype === null) {
    const known = Object.entries(ELEMENTS).map(([name, one]) => `${one.code} (${name})`);
    return fail(`its element type is ${code}, expected one of ${known.join(", ")}`);
  }
  const count = view.getBigUint64(COUNT_OFFSET, true);
  const expected = BigInt(HEADER_BYTES) + count * BigInt(ELEMENTS[dtype].bytes);
  if (expected !== BigInt(size)) {
    fail(
      `it has ${size} bytes, expected ${expected} for ${count} tokens of ${dtype}` +
        (BigInt(size) < expected ? "; it is cut off" : ""),
    );
  }
  return { dtype, tokens: Number(count) };
}

function dtypeOf(code: number): PackedDType | null {
  switch (code) {
    case ELEMENTS.u8.code:
      return "u8";
    case ELEMENTS.i8.code:
      return "i8";
    case ELEMENTS.i16.code:
      return "i16";
    case ELEMENTS.i32.code:
      return "i32";
    case ELEMENTS.i64.code:
      return "i64";
    case ELEMENTS.u16.code:
      return "u16";
    default:
      return null;
  }
}

/**
 * Writes a stream of tokens as chunk files `PREFIX_0000000000.bin` and so on. Every file has the same number of tokens
 * except the last, which has the rest: nothing is padded, nothing dropped.
 */
export class PackedWriter {
  readonly #folder: string;
  readonly #prefix: string;
  readonly #dtype: WrittenDType;
  readonly #buffer: Uint16Array | Int32Array;
  readonly #files: PackedFile[] = [];
  #count = 0;

  /** `chunkTokens` is the length of a full file, which is kept in memory until it is written. */
  constructor(folder: string, prefix: string, dtype: WrittenDType, chunkTokens: number) {
    this.#folder = folder;
    this.#prefix = prefix;
    this.#dtype = dtype;
    this.#buffer = dtype === "u16" ? new Uint16Array(chunkTokens) : new Int32Array(chunkTokens);
  }

  /** Adds the first `count` ids. */
  append(ids: Int32Array, count: number): void {
    for (let done = 0; done < count;) {
      const part = Math.min(count - done, this.#buffer.length - this.#count);
      this.#buffer.set(ids.subarray(done, done + part), this.#count);
      this.#count += part;
      done += part;
      if (this.#count === this.#buffer.length) this.#writeFile();
    }
  }

  /** Writes what is left and returns the files in their order. */
  finish(): readonly PackedFile[] {
    if (this.#count > 0) this.#writeFile();
    return this.#files;
  }

  #writeFile(): void {
    const tokens = this.#count;
    const name = `${this.#prefix}_${String(this.#files.length).padStart(10, "0")}.bin`;
    const header = encodeHeader({ dtype: this.#dtype, tokens });
    const { buffer } = this.#buffer;
    const body = new Uint8Array(buffer, 0, tokens * ELEMENTS[this.#dtype].bytes);
    using file = Deno.openSync(join(this.#folder, name), { write: true, createNew: true });
    writeAll(file, header);
    writeAll(file, body);
    const sha256 = createHash("sha256").update(header).update(body).digest("hex");
    this.#files.push({ name, tokens, sha256 });
    this.#count = 0;
  }
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}
