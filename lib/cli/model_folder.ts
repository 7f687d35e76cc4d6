// What `--model` means: a run folder, one checkpoint of it, or any Hugging Face model folder.

import { join } from "node:path";
import { UsageError } from "../core/errors.ts";
import { latestCheckpoint } from "../train/checkpoint.ts";

/**
 * The folder with config.json and weights that `path` stands for: itself, or its latest complete checkpoint.
 * @throws {UsageError} when there is none, saying what was looked for and what is there.
 */
export function resolveModelFolder(path: string): string {
  const found = kindOf(path);
  if (found !== "folder") {
    const what = found === null ? "there is no such folder" : "it is a file, not a folder";
    throw new UsageError(
      `Cannot use the model "${path}": ${what}; expected a run folder of \`tinyllama pretrain\`, ` +
        `one of its checkpoints, or a Hugging Face model folder`,
    );
  }
  if (kindOf(join(path, "config.json")) === "file") return path;
  const latest = latestCheckpoint(path);
  if (latest !== null) return latest.folder;
  const names = [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  const shown = names.slice(0, 8).join(", ") + (names.length > 8 ? ", …" : "");
  throw new UsageError(
    `Cannot use the model "${path}": found neither config.json (a model folder) nor a complete ` +
      `checkpoint step-NNNNNN with manifest.json (a run folder) among ${
        names.length === 0 ? "no files at all" : shown
      }`,
  );
}

function kindOf(path: string): "folder" | "file" | null {
  try {
    return Deno.statSync(path).isDirectory ? "folder" : "file";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return null;
    }
    throw error;
  }
}
