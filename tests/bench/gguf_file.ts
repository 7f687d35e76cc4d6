// Writes GGUF, llama.cpp's model format: header, typed metadata, a table of tensors, their bytes at multiples of 32.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

/** Types of tensors by the number the format gives them. */
const GGUF_TYPES = { f32: 0, q4_0: 2, q8_0: 8, bf16: 30 } as const;
/** What a tensor may be stored as. */
export type GgufType = keyof typeof GGUF_TYPES;

/** A metadata value; numbers need their type said. */
export type GgufValue =
  | string
  | boolean
  | { readonly u32: number }
  | { readonly f32: number }
  | readonly string[]
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };

/** A tensor to be written; `shape` is row-major as in PyTorch, the file reverses it. */
export interface GgufTensor {
  readonly name: string;
  readonly type: GgufType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The tensor's bytes, in order. */
  read(): AsyncIterable<Uint8Array>;
}

const MAGIC = 0x46554747; // "GGUF"
const VERSION = 3;
const ALIGNMENT = 32;
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, boolean: 7, text: 8, list: 9 } as const;

/** Writes the file. Overwrites `path`. */
export async function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const header = new ByteWriter();
  header.u32(MAGIC);
  header.u32(VERSION);
  header.u64(tensors.length);
  header.u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    header.text(key);
    writeValue(header, value);
  }
  let offset = 0;
  for (const { name, type, shape, byteLength } of tensors) {
    header.text(name);
    header.u32(shape.length);
    for (const extent of [...shape].reverse()) header.u64(extent);
    header.u32(GGUF_TYPES[type]);
    header.u64(offset);
    offset += aligned(byteLength);
  }
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  const start = header.bytes();
  writeAll(file, start);
  writePadding(file, start.length);
  for (const tensor of tensors) {
    for await (const chunk of tensor.read()) writeAll(file, chunk);
    writePadding(file, tensor.byteLength);
  }
}

function aligned(byteLength: number): number {
  return Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT;
}

function writePadding(file: Deno.FsFile, written: number): void {
  writeAll(file, new Uint8Array(aligned(written) - written));
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
}

function writeValue(out: ByteWriter, value: GgufValue): void {
  if (typeof value === "string") {
    out.u32(VALUE_TYPES.text);
    out.text(value);
  } else if (typeof value === "boolean") {
    out.u32(VALUE_TYPES.boolean);
    out.u8(value ? 1 : 0);
  } else if ("u32" in value) {
    out.u32(VALUE_TYPES.u32);
    out.u32(value.u32);
  } else if ("f32" in value) {
    out.u32(VALUE_TYPES.f32);
    out.f32(value.f32);
  } else {
    out.u32(VALUE_TYPES.list);
    writeList(out, value);
  }
}

function writeList(out: ByteWriter, value: Extract<GgufValue, object> & object): void {
  if ("i32s" in value) {
    out.u32(VALUE_TYPES.i32);
    out.u64(value.i32s.length);
    for (const one of value.i32s) out.u32(one);
  } else if ("f32s" in value) {
    out.u32(VALUE_TYPES.f32);
    out.u64(value.f32s.length);
    for (const one of value.f32s) out.f32(one);
  } else if ("length" in value) {
    out.u32(VALUE_TYPES.text);
    out.u64(value.length);
    for (const one of value) out.text(one);
  }
}

/** Little-endian bytes that grow. */
class ByteWriter {
  #view = new DataView(new ArrayBuffer(1 << 16));
  #length = 0;

  u8(value: number): void {
    this.#reserve(1);
    this.#view.setUint8(this.#length, value);
    this.#length += 1;
  }

  u32(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  u64(value: number): void {
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, BigInt(value), true);
    this.#length += 8;
  }

  f32(value: number): void {
    this.#reserve(4);
    this.#view.setFloat32(this.#length, value, true);
    this.#length += 4;
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    this.#reserve(bytes.length);
    new Uint8Array(this.#view.buffer).set(bytes, this.#length);
    this.#length += bytes.length;
  }

  bytes(): Uint8Array {
    return new Uint8Array(this.#view.buffer, 0, this.#length);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#view.byteLength) return;
    const grown = new Uint8Array(2 * (this.#view.byteLength + count));
    grown.set(this.bytes());
    this.#view = new DataView(grown.buffer);
  }
}
