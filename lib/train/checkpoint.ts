// Checkpoints: Hugging Face model folders with the optimizer and trainer state beside the weights. A checkpoint exists
// completely or not at all: it is written under another name, flushed to disk, then renamed.

import { closeSync, fsyncSync, openSync } from "node:fs";
import { join } from "node:path";
import { FormatError } from "../core/errors.ts";
import { type FileHash, hashFile } from "../io/file_hash.ts";
import { ifThere, namesIfThere, removeIfThere, sizeIfThere } from "../io/if_there.ts";
import { readJson } from "../io/json_file.ts";

/** A complete checkpoint in a run folder. */
export interface Checkpoint {
  readonly step: number;
  readonly folder: string;
}

interface ManifestFile extends FileHash {
  readonly name: string;
}

const MANIFEST = "manifest.json";
const UNFINISHED = ".unfinished";

function folderName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

/**
 * Writes the checkpoint of a step: `fill` puts the files into the folder it is given. Replaces one of the same step, and
 * clears away what an earlier process left unfinished.
 */
export async function writeCheckpoint(
  runFolder: string,
  step: number,
  fill: (folder: string) => Promise<void>,
): Promise<Checkpoint> {
  const folder = join(runFolder, folderName(step));
  const unfinished = folder + UNFINISHED;
  for (const name of namesIfThere(runFolder)) {
    if (/^step-\d+\.unfinished$/.test(name)) removeIfThere(join(runFolder, name));
  }
  Deno.mkdirSync(unfinished, { recursive: true });
  await fill(unfinished);
  const names = namesIfThere(unfinished);
  const files = names.map((name) => ({ name, ...hashFile(join(unfinished, name)) }));
  Deno.writeTextFileSync(
    join(unfinished, MANIFEST),
    JSON.stringify({ step, files }, null, 2) + "\n",
  );
  for (const name of [...names, MANIFEST]) flush(join(unfinished, name));
  flush(unfinished);
  removeIfThere(folder);
  Deno.renameSync(unfinished, folder);
  flush(runFolder);
  return { step, folder };
}

/** The complete checkpoints of a run folder by ascending step; none when there is no such folder. */
export function listCheckpoints(runFolder: string): Checkpoint[] {
  return checkpointFolders(runFolder).filter(({ folder }) => isComplete(folder))
    .sort((a, b) => a.step - b.step);
}

/** Folders named as checkpoints, complete or not. */
export function checkpointFolders(runFolder: string): Checkpoint[] {
  return namesIfThere(runFolder).flatMap((name) => {
    const match = /^step-(\d+)$/.exec(name);
    return match === null ? [] : [{ step: Number(match[1]), folder: join(runFolder, name) }];
  });
}

/** The complete checkpoint of the highest step; null when there is none. */
export function latestCheckpoint(runFolder: string): Checkpoint | null {
  return listCheckpoints(runFolder).at(-1) ?? null;
}

/**
 * Compares every file of a checkpoint with the checksums of its manifest.
 * @throws {FormatError} naming the file that differs.
 */
export function verifyCheckpoint(folder: string): void {
  for (const file of readManifest(folder) ?? []) {
    const actual = hashFile(join(folder, file.name));
    if (actual.sha256 !== file.sha256) {
      throw new FormatError(
        `Cannot resume from "${folder}": "${file.name}" is damaged: its sha256 is ` +
          `${actual.sha256}, expected ${file.sha256}`,
      );
    }
  }
}

/** Deletes checkpoints except the last `keepLast` and those of steps that are multiples of `keepEvery`. */
export function pruneCheckpoints(
  runFolder: string,
  keepLast: number,
  keepEvery: number | null,
): void {
  for (const { step, folder } of listCheckpoints(runFolder).slice(0, -keepLast)) {
    if (keepEvery !== null && step % keepEvery === 0) continue;
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Deletes what a run wrote into its folder: checkpoints, finished or not, and logs. Leaves other files alone. */
export function clearRun(runFolder: string): void {
  const own = /^(step-\d+(\.unfinished)?|config\.yaml|metrics\.jsonl|validation\.jsonl)$/;
  for (const name of namesIfThere(runFolder)) {
    if (own.test(name)) Deno.removeSync(join(runFolder, name), { recursive: true });
  }
}

/** True when all files of the manifest are there with their sizes. */
function isComplete(folder: string): boolean {
  const files = readManifest(folder);
  return files !== null &&
    files.every(({ name, bytes }) => sizeIfThere(join(folder, name)) === bytes);
}

/** The files a manifest lists; null when there is no manifest or it is none of ours. */
function readManifest(folder: string): ManifestFile[] | null {
  const manifest = ifThere(() => readJson(join(folder, MANIFEST)));
  if (typeof manifest !== "object" || manifest === null || !("files" in manifest)) return null;
  const { files } = manifest;
  return Array.isArray(files) && files.every(isManifestFile) ? files : null;
}

function isManifestFile(value: unknown): value is ManifestFile {
  return typeof value === "object" && value !== null &&
    "name" in value && typeof value.name === "string" &&
    "bytes" in value && typeof value.bytes === "number" &&
    "sha256" in value && typeof value.sha256 === "string";
}

/** Waits until a file's content, or a folder's list of names, is on the disk. */
function flush(path: string): void {
  // Windows neither can nor needs to flush folders.
  if (Deno.build.os === "windows" && Deno.statSync(path).isDirectory) return;
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
