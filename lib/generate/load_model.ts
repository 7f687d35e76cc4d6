// From a Hugging Face model folder to a model ready for inference. Matrices wanted in the type that is stored are views
// into the mapped files where the device can map: nothing of them is read or copied before the first token needs it.

import { join } from "node:path";
import type { Backend } from "../core/backend.ts";
import { byteLengthOf, type DType, isQuantized, QUANT_BLOCK } from "../core/dtype.ts";
import { FormatError, UsageError } from "../core/errors.ts";
import {
  byteLength,
  carve,
  rowWidth,
  stackRows,
  type Tensor,
  type TensorSpec,
} from "../core/tensor.ts";
import { checkWeights, copyWeights, locate, storedDType } from "../io/hf_weights.ts";
import { readJson } from "../io/json_file.ts";
import { openWeightFiles, type WeightFiles } from "../io/weight_files.ts";
import { type ModelConfig, parseModelConfig } from "../model/config.ts";
import type { Model } from "../model/forward.ts";
import {
  blockTable,
  blockWeights,
  residentWeights,
  rootTable,
  rootWeights,
  type WeightEntry,
} from "../model/weights.ts";

/** How matrices are held; `stored` takes them as the files have them. */
export type WeightChoice = "stored" | "f32" | "bf16" | "f16" | "q8_0" | "q4_0";

/** What can be chosen about a loaded model. */
export interface LoadOptions {
  readonly weights: WeightChoice;
}

/** A model for inference. Disposing frees its weights. */
export interface LoadedModel extends Disposable {
  readonly model: Model;
  readonly folder: string;
  /** Type of the matrices; of the first layer's where files mix types. Norms have the backend's parameter type. */
  readonly weights: DType;
  /** Bytes of all weights as they are held; a tied head counts once. */
  readonly weightBytes: number;
  /** True when every matrix is a view into a mapped file. */
  readonly isMapped: boolean;
}

/** Where a weight of the model will lie. */
interface Placement {
  /** Unique in the model, such as `3.wqkv`. */
  readonly key: string;
  readonly entry: WeightEntry;
  readonly dtype: DType;
  /** The tensor in a mapped file; null for one that is allocated and filled. */
  readonly view: Tensor | null;
}

/**
 * Loads the model of a folder with config.json and safetensors files.
 * @throws {FormatError} when there is no such folder, no Llama or no complete weights in it; says what was found.
 * @throws {UsageError} when a matrix cannot be quantized as asked for.
 */
export async function loadModel(
  backend: Backend,
  folder: string,
  options: LoadOptions,
): Promise<LoadedModel> {
  const config = readModelConfig(folder);
  using files = openWeightFiles(folder);
  const tables = weightTables(config, files);
  checkWeights(files, tables.flat().flatMap((entry) => entry.sources));
  using owned = new DisposableStack();
  const isAsStored = tables.flat().some((entry) =>
    !isVector(entry) && isStoredAs(files, entry, dtypeOf(backend, files, entry, options))
  );
  const mapped = isAsStored ? mapFiles(backend, files, owned) : null;
  const placements = tables.map((table, index) =>
    table.map((entry): Placement => {
      const key = index === 0 ? entry.key : `${index - 1}.${entry.key}`;
      const dtype = dtypeOf(backend, files, entry, options);
      checkQuantizable(folder, entry, dtype);
      const view = mapped === null ? null : viewOf(files, mapped, key, entry, dtype);
      return { key, entry, dtype, view };
    })
  );
  const all = placements.flat(), copied = all.filter(({ view }) => view === null);
  const arena = owned.use(backend.allocate("weights", specsOf(copied)));
  const tensorOf = ({ key, view }: Placement) => view ?? arena.tensors[key];
  await copyWeights(
    backend,
    files,
    copied.map((one) => ({ tensor: tensorOf(one), sources: one.entry.sources })),
  );
  const [root, ...blocks] = placements.map((table) =>
    new Map(table.map((one) => [one.entry.key, tensorOf(one)]))
  );
  const set = { root: rootWeights(root), blocks: blocks.map(blockWeights) };
  const kept = owned.move();
  return {
    model: { config, backend, weights: residentWeights(set) },
    folder,
    weights: set.blocks[0].wqkv.dtype,
    weightBytes: all.reduce((sum, one) => sum + byteLength(tensorOf(one)), 0),
    isMapped: copied.every(({ entry }) => isVector(entry)),
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/**
 * The architecture of a model folder.
 * @throws {FormatError} when it has no config.json or that of another architecture.
 */
export function readModelConfig(folder: string): ModelConfig {
  const path = join(folder, "config.json");
  try {
    return parseModelConfig(readJson(path), path);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (!(error instanceof NotFound) && !(error instanceof NotADirectory)) throw error;
    throw new FormatError(
      `Cannot load a model from "${folder}": there is no "${path}", expected a Hugging Face ` +
        "model folder",
    );
  }
}

/** The tables of the root and of every block. A layer count from a file is not trusted before its tensors are there. */
function weightTables(config: ModelConfig, files: WeightFiles): WeightEntry[][] {
  if (config.numLayers > files.tensors.size) {
    throw new FormatError(
      `Cannot load "${files.path}": config.json asks for ${config.numLayers} layers, ` +
        `its weights are only ${files.tensors.size} tensors`,
    );
  }
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer);
  return [rootTable(config), ...layers.map((layer) => blockTable(config, layer))];
}

/** The bytes of every file by path, or null when the device cannot map files. */
function mapFiles(
  backend: Backend,
  files: WeightFiles,
  owned: DisposableStack,
): ReadonlyMap<string, Tensor> | null {
  const mapped = new Map<string, Tensor>();
  for (const { path } of files.files) {
    const arena = backend.map("mapped weights", path);
    if (arena === null) return null;
    mapped.set(path, owned.use(arena).tensors.bytes);
  }
  return mapped;
}

/** Norms: rmsnormForward reads the backend's parameter type and nothing else. */
function isVector({ shape }: WeightEntry): boolean {
  return shape.length === 1;
}

function dtypeOf(
  backend: Backend,
  files: WeightFiles,
  entry: WeightEntry,
  { weights }: LoadOptions,
): DType {
  if (isVector(entry)) return backend.precision.param;
  if (weights !== "stored") return weights;
  const [first, ...others] = entry.sources.map(({ name }) => storedDType(files, name));
  // A stack has one type. f32 holds every other exactly.
  return others.every((dtype) => dtype === first) ? first : "f32";
}

function isStoredAs(files: WeightFiles, entry: WeightEntry, dtype: DType): boolean {
  return entry.sources.every(({ name }) => storedDType(files, name) === dtype);
}

function checkQuantizable(folder: string, entry: WeightEntry, dtype: DType): void {
  const width = rowWidth({ dtype, shape: entry.shape });
  if (!isQuantized(dtype) || width % QUANT_BLOCK === 0) return;
  throw new UsageError(
    `Cannot load "${folder}" as ${dtype}: rows of tensor "${entry.sources[0].name}" have ` +
      `${width} elements, expected a multiple of ${QUANT_BLOCK}; choose f32, bf16 or f16`,
  );
}

/** A matrix in mapped files; null when it is to be converted or its elements do not lie on their boundaries. */
function viewOf(
  files: WeightFiles,
  mapped: ReadonlyMap<string, Tensor>,
  key: string,
  entry: WeightEntry,
  dtype: DType,
): Tensor | null {
  if (isVector(entry) || !isStoredAs(files, entry, dtype)) return null;
  const parts: Tensor[] = [];
  for (const { name, shape } of entry.sources) {
    const { file, tensor } = locate(files, name);
    const bytes = mapped.get(file.path);
    const isAligned = tensor.byteOffset % byteLengthOf(dtype, 1) === 0;
    if (bytes === undefined || !isAligned) return null;
    parts.push(carve(bytes, name, { dtype, shape }, tensor.byteOffset));
  }
  return parts.length === 1 ? parts[0] : stackRows(`weights.${key}`, parts);
}

function specsOf(placements: readonly Placement[]): Readonly<Record<string, TensorSpec>> {
  return Object.fromEntries(
    placements.map(({ key, entry, dtype }) => [key, { dtype, shape: entry.shape }]),
  );
}
