// Weights between tensors of a device and safetensors files under Hugging Face's names. One of our tensors may stack
// several of theirs by rows. Bytes go through one bounded buffer: the host never holds a model.

import type { Arena, Backend, Memory } from "../core/backend.ts";
import { byteLengthOf, type DType, isQuantized } from "../core/dtype.ts";
import { FormatError } from "../core/errors.ts";
import { carve, elementCount, reshape, rows, type Tensor } from "../core/tensor.ts";
import { type StoredDType, type TensorHeader, writeSafetensors } from "./safetensors.ts";
import { type LocatedTensor, openWeightFiles, type WeightFiles } from "./weight_files.ts";

/** Bytes per transfer; the host and the device hold one such buffer each. Small enough to stay in a core's cache. */
const CHUNK_BYTES = 2 << 20;

/** A tensor of a file that makes up rows of one of ours. */
export interface SlotSource {
  readonly name: string;
  readonly shape: readonly number[];
}

/** One tensor and the tensors of a file that are stacked in it, in order. */
export interface WeightSlot {
  /** (Σ rows, ...) of the sources' rows, not itself stacked. */
  readonly tensor: Tensor;
  readonly sources: readonly SlotSource[];
}

/** Element types of weights in files. */
type FloatDType = "f32" | "bf16" | "f16";

const STORED = { f32: "F32", bf16: "BF16", f16: "F16" } as const satisfies Record<
  FloatDType,
  StoredDType
>;

/**
 * Writes the tensors as one safetensors file in the order given, each in its own dtype. Overwrites `path`.
 * @throws {TypeError} for a tensor that is not f32, bf16 or f16.
 */
export async function saveWeights(
  memory: Memory,
  path: string,
  slots: readonly WeightSlot[],
): Promise<void> {
  const headers = slots.flatMap(({ tensor, sources }): TensorHeader[] => {
    const { dtype } = tensor;
    if (dtype !== "f32" && dtype !== "bf16" && dtype !== "f16") {
      throw new TypeError(`Cannot save "${tensor.name}" of ${dtype}: expected f32, bf16 or f16`);
    }
    return sources.map(({ name, shape }) => ({ name, dtype: STORED[dtype], shape }));
  });
  await writeSafetensors(path, headers, readChunks(memory, slots));
}

async function* readChunks(
  memory: Memory,
  slots: readonly WeightSlot[],
): AsyncGenerator<Uint8Array> {
  for (const { tensor } of slots) {
    const flat = reshape(tensor, [elementCount(tensor.shape)]);
    const step = CHUNK_BYTES / byteLengthOf(tensor.dtype, 1);
    for (let first = 0; first < flat.shape[0]; first += step) {
      const part = rows(flat, first, Math.min(first + step, flat.shape[0]));
      yield new Uint8Array(await memory.read(part));
    }
  }
}

/**
 * Fills the tensors from a safetensors file or a model folder, converting each to its dtype.
 * @throws {FormatError} when a tensor is missing, unexpected, or not of the shape or a type expected; nothing is
 * overwritten then.
 */
export async function loadWeights(
  backend: Backend,
  fileOrFolder: string,
  slots: readonly WeightSlot[],
): Promise<void> {
  using files = openWeightFiles(fileOrFolder);
  checkWeights(files, slots.flatMap((slot) => slot.sources));
  await copyWeights(backend, files, slots);
}

/**
 * Checks that the files hold exactly the tensors expected, in a type we read.
 * @throws {FormatError} naming the first tensor that differs, with what was found and expected.
 */
export function checkWeights(files: WeightFiles, sources: readonly SlotSource[]): void {
  const expected = new Set(sources.map((source) => source.name));
  const unexpected = [...files.tensors.keys()].filter((name) =>
    !expected.has(name) && !isIgnored(name)
  );
  const missing = sources.filter(({ name }) => !files.tensors.has(name));
  if (missing.length > 0) {
    const instead = unexpected.length > 0 ? `; unexpected are ${list(unexpected)}` : "";
    throw new FormatError(
      `Cannot load "${files.path}": it lacks ${list(missing.map(({ name }) => name))}${instead}`,
    );
  }
  if (unexpected.length > 0) {
    throw new FormatError(
      `Cannot load "${files.path}": it has ${list(unexpected)}, for which the model has no place`,
    );
  }
  for (const { name, shape } of sources) {
    const { file, tensor } = locate(files, name);
    if (tensor.shape.join() !== shape.join()) {
      throw new FormatError(
        `Cannot load "${file.path}": tensor "${name}" has shape [${tensor.shape.join(", ")}], ` +
          `expected [${shape.join(", ")}]`,
      );
    }
    storedDType(files, name);
  }
}

/** Buffers that older files have, and the head that a tied model stores a second time. */
function isIgnored(name: string): boolean {
  return name.endsWith("rotary_emb.inv_freq") || name === "lm_head.weight";
}

function list(names: readonly string[]): string {
  const quoted = names.slice(0, 3).map((name) => `"${name}"`).join(", ");
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  return `tensor${names.length > 1 ? "s" : ""} ${quoted}${more}`;
}

/** The tensor of that name. @throws {FormatError} when there is none. */
export function locate(files: WeightFiles, name: string): LocatedTensor {
  const located = files.tensors.get(name);
  if (located !== undefined) return located;
  throw new FormatError(`Cannot load "${files.path}": it lacks tensor "${name}"`);
}

/** In which of our types a tensor is stored. @throws {FormatError} when it is none of F32, BF16 and F16. */
export function storedDType(files: WeightFiles, name: string): FloatDType {
  const { file, tensor } = locate(files, name);
  switch (tensor.dtype) {
    case "F32":
      return "f32";
    case "BF16":
      return "bf16";
    case "F16":
      return "f16";
    default:
      throw new FormatError(
        `Cannot load "${file.path}": tensor "${name}" is stored as ${tensor.dtype}, ` +
          "expected F32, BF16 or F16",
      );
  }
}

/** Fills tensors with weights that {@linkcode checkWeights} has seen, converting each to its dtype. */
export async function copyWeights(
  backend: Backend,
  files: WeightFiles,
  slots: readonly WeightSlot[],
): Promise<void> {
  const largest = slots.flatMap(({ sources }) => sources).reduce(
    (bytes, { name }) => Math.max(bytes, locate(files, name).tensor.byteLength),
    0,
  );
  const chunk = new Uint8Array(Math.min(CHUNK_BYTES, largest));
  using staging = allocateStaging(backend, files, slots, chunk.length);
  for (const { tensor, sources } of slots) {
    let row = 0;
    for (const { name, shape } of sources) {
      const target = rows(tensor, row, row + shape[0]);
      await copySource(backend, files, name, target, chunk, staging);
      row += shape[0];
    }
  }
}

/** Where chunks land that are converted on the device; null when none is. */
function allocateStaging(
  backend: Backend,
  files: WeightFiles,
  slots: readonly WeightSlot[],
  chunkBytes: number,
): Arena<"bytes"> | null {
  const isConverted = slots.some(({ tensor, sources }) =>
    sources.some(({ name }) => storedDType(files, name) !== tensor.dtype)
  );
  if (!isConverted) return null;
  return backend.allocate("weight staging", { bytes: { dtype: "u8", shape: [chunkBytes] } });
}

async function copySource(
  backend: Backend,
  files: WeightFiles,
  name: string,
  target: Tensor,
  chunk: Uint8Array,
  staging: Arena<"bytes"> | null,
): Promise<void> {
  const { file, tensor } = locate(files, name);
  const dtype = storedDType(files, name);
  const matrix = asMatrix(target);
  const [total, width] = matrix.shape;
  const rowBytes = byteLengthOf(dtype, width);
  const step = Math.floor(chunk.length / rowBytes);
  if (step === 0) {
    throw new FormatError(
      `Cannot load "${file.path}": rows of tensor "${name}" have ${rowBytes} bytes, ` +
        `expected at most ${CHUNK_BYTES}`,
    );
  }
  for (let row = 0; row < total; row += step) {
    const part = rows(matrix, row, Math.min(row + step, total));
    const bytes = chunk.subarray(0, part.shape[0] * rowBytes);
    file.read(tensor, row * rowBytes, bytes);
    if (staging === null || dtype === target.dtype) backend.write(part, bytes);
    else convert(backend, part, carveStaging(staging, dtype, part.shape), bytes);
    // Without this, a device that copies when it gets there would keep every chunk on the host.
    await backend.synchronize();
  }
}

/** A vector is one row; rows of everything else are its last dimension. */
function asMatrix(tensor: Tensor): Tensor {
  const width = tensor.shape.length < 2 ? elementCount(tensor.shape) : tensor.shape[1];
  return reshape(tensor, [elementCount(tensor.shape) / width, width]);
}

function carveStaging(staging: Arena<"bytes">, dtype: DType, shape: readonly number[]): Tensor {
  return carve(staging.tensors.bytes, "weight staging", { dtype, shape }, 0);
}

function convert(backend: Backend, target: Tensor, staged: Tensor, bytes: Uint8Array): void {
  backend.write(staged, bytes);
  if (isQuantized(target.dtype)) backend.quantize(target, staged);
  else backend.cast(target, staged);
}
