// The safetensors format: eight bytes of header length, a JSON header, the tensors' bytes without a gap. Knows nothing
// of models. A file may come from anywhere: no size in it is trusted. https://github.com/huggingface/safetensors

import { FormatError } from "../core/errors.ts";
import { quote } from "../core/quote.ts";
import { elementCount } from "../core/tensor.ts";

/** Bytes an element takes, by the format's name of its type. */
const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

/** An element type by the format's name. */
export type StoredDType = keyof typeof ELEMENT_BYTES;

/** What a header says of a tensor, in the order of the file. */
export interface TensorHeader {
  readonly name: string;
  readonly dtype: StoredDType;
  /** Row-major; empty for a scalar. */
  readonly shape: readonly number[];
}

/** A tensor of a file. */
export interface StoredTensor extends TensorHeader {
  /** From the start of the file, on no boundary in particular. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

const LENGTH_BYTES = 8;
/** The reference implementation's own limit. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = "__metadata__";
// The format asks for 8; a cache line lets a mapped file be read like allocated memory.
const DATA_ALIGNMENT = 64;

/** Bytes of a tensor's data; beyond 2^53 not exact, but never one that is below. */
function dataBytes({ dtype, shape }: Omit<TensorHeader, "name">): number {
  return ELEMENT_BYTES[dtype] * elementCount(shape);
}

/** A file that was opened and whose header was checked completely. Disposing closes it. */
export class SafetensorsFile implements Disposable {
  readonly path: string;
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly #file: Deno.FsFile;

  /**
   * Opens `path` and reads its header, nothing else.
   * @throws {FormatError} when it is not there or is no safetensors file, naming what was found and expected.
   */
  constructor(path: string) {
    this.path = path;
    this.#file = openFile(path);
    try {
      this.tensors = readHeader(this.#file, path);
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  /**
   * Fills `into` with the bytes of `tensor` from its byte `first` on.
   * @throws {FormatError} when the file has become shorter.
   */
  read(tensor: StoredTensor, first: number, into: Uint8Array): void {
    if (first < 0 || first + into.length > tensor.byteLength) {
      throw new RangeError(
        `Cannot read bytes ${first} to ${first + into.length} of "${tensor.name}": ` +
          `it has ${tensor.byteLength}`,
      );
    }
    readExactly(this.#file, this.path, tensor.byteOffset + first, into);
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/**
 * Writes a file: header, then the chunks one after another, which must be the bytes of the tensors in the order given.
 * An existing file is overwritten.
 * @throws {RangeError} when a name comes twice or the chunks are not as many bytes as the tensors.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorHeader[],
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { header, dataLength } = encodeHeader(tensors);
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  writeAll(file, header);
  let written = 0;
  for await (const chunk of chunks) {
    writeAll(file, chunk);
    written += chunk.length;
  }
  if (written !== dataLength) {
    throw new RangeError(
      `Cannot write "${path}": got ${written} bytes of tensors, expected ${dataLength}`,
    );
  }
}

function encodeHeader(
  tensors: readonly TensorHeader[],
): { header: Uint8Array; dataLength: number } {
  const fields = new Map<string, unknown>([[METADATA, { format: "pt" }]]);
  let dataLength = 0;
  for (const { name, dtype, shape } of tensors) {
    if (fields.has(name)) throw new RangeError(`Cannot write a second tensor "${name}"`);
    const end = dataLength + dataBytes({ dtype, shape });
    fields.set(name, { dtype, shape, data_offsets: [dataLength, end] });
    dataLength = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(fields)));
  const start = Math.ceil((LENGTH_BYTES + json.length) / DATA_ALIGNMENT) * DATA_ALIGNMENT;
  const header = new Uint8Array(start).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(start - LENGTH_BYTES), true);
  header.set(json, LENGTH_BYTES);
  return { header, dataLength };
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

function openFile(path: string): Deno.FsFile {
  try {
    return Deno.openSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new FormatError(`Cannot read "${path}": there is no such file`);
  }
}

function readExactly(file: Deno.FsFile, path: string, position: number, into: Uint8Array): void {
  file.seekSync(position, Deno.SeekMode.Start);
  for (let done = 0; done < into.length;) {
    const count = file.readSync(into.subarray(done));
    if (count === null) {
      throw new FormatError(
        `Cannot read "${path}": it ends at byte ${position + done}, ` +
          `expected ${into.length - done} bytes more`,
      );
    }
    done += count;
  }
}

function readHeader(file: Deno.FsFile, path: string): ReadonlyMap<string, StoredTensor> {
  const fail = (problem: string): never => {
    throw new FormatError(`Cannot read "${path}": ${problem}`);
  };
  const info = file.statSync();
  if (!info.isFile) fail("it is not a file");
  const rest = info.size - LENGTH_BYTES;
  if (rest < 0) fail(`it has ${info.size} bytes, expected a safetensors file of 8 or more`);
  const prefix = new Uint8Array(LENGTH_BYTES);
  readExactly(file, path, 0, prefix);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(rest)) {
    if (new TextDecoder().decode(prefix) === "version ") {
      fail("it is a Git LFS pointer, not the weights; fetch them with `git lfs pull`");
    }
    fail(`its header should have ${length} bytes, ${rest} follow; it is cut off or no safetensors`);
  }
  if (length > BigInt(MAX_HEADER_BYTES)) {
    fail(`its header has ${length} bytes, expected at most ${MAX_HEADER_BYTES}`);
  }
  const bytes = new Uint8Array(Number(length));
  readExactly(file, path, LENGTH_BYTES, bytes);
  return parseHeader(bytes, rest - bytes.length, fail);
}

/** Checks a header against the `dataLength` bytes that follow it. `fail` throws the FormatError. */
function parseHeader(
  bytes: Uint8Array,
  dataLength: number,
  fail: (problem: string) => never,
): ReadonlyMap<string, StoredTensor> {
  const start = LENGTH_BYTES + bytes.length;
  const tensors: StoredTensor[] = [];
  for (const [name, value] of Object.entries(parseJson(bytes, fail))) {
    if (name === METADATA) checkMetadata(value, fail);
    else tensors.push(parseTensor(name, value, start, fail));
  }
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = start;
  for (const { name, byteOffset, byteLength } of tensors) {
    if (byteOffset !== end) {
      fail(
        `tensor ${quote(name)} begins at byte ${byteOffset - start} of the data, expected ` +
          `${end - start}: tensors must neither overlap nor leave gaps`,
      );
    }
    end = byteOffset + byteLength;
  }
  if (end - start !== dataLength) {
    fail(
      `its tensors take ${end - start} bytes, ${dataLength} follow the header` +
        (end - start > dataLength ? "; it is cut off" : ""),
    );
  }
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}

function parseJson(bytes: Uint8Array, fail: (problem: string) => never): object {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail("its header is not UTF-8 text");
  }
  if (text[0] !== "{") fail(`its header begins with ${quote(text.slice(0, 8))}, expected "{"`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return fail("its header is not valid JSON");
  }
  const twice = duplicateName(text);
  if (twice !== null) fail(`its header has the name ${quote(twice)} twice in one object`);
  return typeof value === "object" && value !== null ? value : fail("its header is no object");
}

function checkMetadata(value: unknown, fail: (problem: string) => never): void {
  if (!isObject(value)) return fail(`${METADATA} is ${quote(value)}, expected an object`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text === "string") continue;
    fail(`${METADATA} has ${quote(text)} under ${quote(key)}, expected a text`);
  }
}

function parseTensor(
  name: string,
  value: unknown,
  start: number,
  fail: (problem: string) => never,
): StoredTensor {
  const wrong = (what: string, found: unknown, expected: string) =>
    fail(`tensor ${quote(name)} has ${what} ${quote(found)}, expected ${expected}`);
  if (!isObject(value)) return wrong("description", value, "an object");
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isStoredDType(dtype)) return wrong("dtype", dtype, Object.keys(ELEMENT_BYTES).join(", "));
  if (!areSizes(shape)) return wrong("shape", shape, "a list of whole numbers from 0 on");
  if (!areSizes(offsets) || offsets.length !== 2 || offsets[1] < offsets[0]) {
    return wrong("data_offsets", offsets, "[begin, end] in bytes");
  }
  const [begin, end] = offsets;
  if (dataBytes({ dtype, shape }) !== end - begin) {
    return wrong(
      "data_offsets",
      offsets,
      `${dataBytes({ dtype, shape })} bytes apart for ${dtype} of shape [${shape.join(", ")}]`,
    );
  }
  return { name, dtype, shape, byteOffset: start + begin, byteLength: end - begin };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStoredDType(value: unknown): value is StoredDType {
  return typeof value === "string" && Object.hasOwn(ELEMENT_BYTES, value);
}

function areSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) &&
    value.every((size: unknown) => Number.isSafeInteger(size) && Number(size) >= 0);
}

/** The first name that an object in valid JSON text has twice, where JSON.parse keeps the last; else null. */
function duplicateName(json: string): string | null {
  const scopes: Set<string>[] = [];
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (character === "{") scopes.push(new Set());
    else if (character === "}") scopes.pop();
    else if (character === '"') {
      const end = stringEnd(json, at);
      const names = scopes[scopes.length - 1];
      if (isFollowedByColon(json, end)) {
        const name: unknown = JSON.parse(json.slice(at, end));
        if (typeof name === "string" && names.has(name)) return name;
        names.add(String(name));
      }
      at = end - 1;
    }
  }
  return null;
}

function stringEnd(json: string, begin: number): number {
  let at = begin + 1;
  while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at + 1;
}

function isFollowedByColon(json: string, end: number): boolean {
  let at = end;
  while (" \t\n\r".includes(json[at] ?? ":")) at++;
  return json[at] === ":";
}
