// Which safetensors files hold a model's weights: one file, or a folder in Hugging Face's layout with one file or with
// shards and their index. Finds tensors by name across them.

import { join } from "node:path";
import { FormatError } from "../core/errors.ts";
import { readJson } from "./json_file.ts";
import { SafetensorsFile, type StoredTensor } from "./safetensors.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** A tensor and the file it is in. */
export interface LocatedTensor {
  readonly file: SafetensorsFile;
  readonly tensor: StoredTensor;
}

/** Opened files with all their tensors by name. Disposing closes them. */
export interface WeightFiles extends Disposable {
  /** What was opened, for messages. */
  readonly path: string;
  readonly files: readonly SafetensorsFile[];
  readonly tensors: ReadonlyMap<string, LocatedTensor>;
}

/**
 * Opens a safetensors file, or what a model folder has: model.safetensors, else the shards its index lists. Reads
 * headers only.
 * @throws {FormatError} when there are no such weights, saying what is there instead, or when a file is damaged.
 */
export function openWeightFiles(path: string): WeightFiles {
  const entries = namesIn(path);
  if (entries === null) return gather(path, [path]);
  if (entries.includes(SINGLE)) return gather(path, [join(path, SINGLE)]);
  if (!entries.includes(INDEX)) throw new FormatError(noWeights(path, entries));
  const indexPath = join(path, INDEX);
  const shardOf = readIndex(indexPath);
  const shards = [...new Set(shardOf.values())].sort();
  const files = gather(path, shards.map((name) => join(path, name)));
  for (const [name, shard] of shardOf) {
    if (files.tensors.get(name)?.file.path === join(path, shard)) continue;
    files[Symbol.dispose]();
    throw new FormatError(`Cannot read "${indexPath}": "${shard}" has no tensor "${name}"`);
  }
  return files;
}

/** Names in a folder; null when `path` is none. */
function namesIn(path: string): string[] | null {
  try {
    return [...Deno.readDirSync(path)].map((entry) => entry.name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotADirectory) return null;
    if (error instanceof Deno.errors.NotFound) {
      throw new FormatError(`Cannot load weights from "${path}": there is no such file or folder`);
    }
    throw error;
  }
}

function gather(path: string, filePaths: readonly string[]): WeightFiles {
  using opened = new DisposableStack();
  const files = filePaths.map((filePath) => opened.use(new SafetensorsFile(filePath)));
  const tensors = new Map<string, LocatedTensor>();
  for (const file of files) {
    for (const [name, tensor] of file.tensors) {
      const earlier = tensors.get(name);
      if (earlier !== undefined) {
        throw new FormatError(
          `Cannot load "${file.path}": tensor "${name}" is in "${earlier.file.path}" as well`,
        );
      }
      tensors.set(name, { file, tensor });
    }
  }
  const kept = opened.move();
  return { path, files, tensors, [Symbol.dispose]: () => kept.dispose() };
}

/** The shard of each tensor. Shards must lie beside the index: a name with a slash could lead anywhere. */
function readIndex(path: string): ReadonlyMap<string, string> {
  const index = readJson(path);
  const map = typeof index === "object" && index !== null && "weight_map" in index
    ? index.weight_map
    : null;
  if (typeof map !== "object" || map === null || Object.keys(map).length === 0) {
    throw new FormatError(
      `Cannot read "${path}": it has no "weight_map", expected the file of each tensor`,
    );
  }
  const shardOf = new Map<string, string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !/^[^/\\\0]+\.safetensors$/.test(shard)) {
      const found = typeof shard === "string" ? JSON.stringify(shard) : "no text";
      throw new FormatError(
        `Cannot read "${path}": the file of tensor "${name}" is ${found}, ` +
          "expected the name of a .safetensors file beside it",
      );
    }
    shardOf.set(name, shard);
  }
  return shardOf;
}

function noWeights(path: string, entries: readonly string[]): string {
  const start = `Cannot load weights from "${path}": it has neither ${SINGLE} nor ${INDEX}`;
  const pickled = entries.find((name) => /^(pytorch_model.*\.bin|.*\.(pth|pt|ckpt))$/.test(name));
  if (pickled !== undefined) {
    return `${start}, only "${pickled}", a PyTorch file that could run code when opened. Convert ` +
      "it with transformers: " +
      "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)";
  }
  const adapter = entries.find((name) => name.startsWith("adapter_model."));
  if (adapter !== undefined) {
    return `${start}, only "${adapter}", an adapter. Merge it into its base model with peft: ` +
      "AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(NEW_FOLDER)";
  }
  const shown = entries.slice(0, 6).map((name) => `"${name}"`).join(", ");
  return `${start}; found ${shown === "" ? "nothing" : shown}${entries.length > 6 ? ", ..." : ""}`;
}
