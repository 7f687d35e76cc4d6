// What there is to prepare: text files and source folders, walked in sorted order, each file with its source or with the
// reason why it is left out. Nothing is left out in silence.

import { basename, join } from "node:path";
import { UsageError } from "../core/errors.ts";
import { ifThere } from "../io/if_there.ts";
import { type ContentProblem, DocumentReader, type TextDocument } from "./document.ts";
import { textKind } from "./text_kind.ts";

/** A file or folder to prepare. */
export interface CorpusPath {
  readonly path: string;
  /** The source all its texts belong to; null sorts them into prose and code by their names. */
  readonly source: string | null;
}

/** Why a file or folder was left out. */
export type SkipReason =
  | ContentProblem
  | "hidden"
  | "symbolic link"
  | "not a regular file"
  | "neither prose nor code by its name"
  | "the output folder";

/** A file or folder that was left out. */
export interface SkippedFile {
  readonly path: string;
  readonly reason: SkipReason;
}

/** The documents of a source in their order. */
export interface CorpusSource {
  readonly name: string;
  readonly documents: readonly TextDocument[];
}

/** Everything found. */
export interface Corpus {
  readonly sources: readonly CorpusSource[];
  readonly skipped: readonly SkippedFile[];
}

interface FoundFile {
  readonly path: string;
  readonly size: number;
  /** Null when its name decides. */
  readonly source: string | null;
  /** Named by the user, not found in a folder: an unknown kind of text is prose. */
  readonly isNamed: boolean;
}

/**
 * Finds all documents in `paths`, reading every file once to check that it is text. Sources come in the order of their
 * first document, documents in the order of `paths` and sorted within each. The folders `outputs` are not entered.
 * `pause` is awaited after each file with the files and bytes so far.
 * @throws {UsageError} for a path that is not there or lies in another one.
 */
export async function surveyCorpus(
  paths: readonly CorpusPath[],
  outputs: readonly string[],
  pause: (files: number, bytes: number) => Promise<void>,
  reader = new DocumentReader(),
): Promise<Corpus> {
  checkPaths(paths);
  const skipped: SkippedFile[] = [];
  const sources = new Map<string, TextDocument[]>();
  const excluded = outputs.map(realPath);
  let files = 0, bytes = 0;
  for (const root of paths) {
    for (const file of walkRoot(root, excluded, skipped)) {
      const source = sourceOf(file);
      const found = source === null
        ? "neither prose nor code by its name"
        : reader.survey(file.path, file.size);
      if (typeof found === "string") skipped.push({ path: file.path, reason: found });
      else if (source !== null) append(sources, source, found);
      files++;
      bytes += file.size;
      await pause(files, bytes);
    }
  }
  return { sources: [...sources].map(([name, documents]) => ({ name, documents })), skipped };
}

function append(
  sources: Map<string, TextDocument[]>,
  name: string,
  documents: readonly TextDocument[],
): void {
  const known = sources.get(name);
  if (known === undefined) sources.set(name, [...documents]);
  else for (const document of documents) known.push(document);
}

function sourceOf({ path, source, isNamed }: FoundFile): string | null {
  if (source !== null) return source;
  return textKind(basename(path)) ?? (isNamed ? "prose" : null);
}

/** Refuses paths that would bring a text in twice. */
function checkPaths(paths: readonly CorpusPath[]): void {
  const seen: { path: string; real: string }[] = [];
  for (const { path } of paths) {
    const real = realPath(path);
    if (real === null) {
      throw new UsageError(`Cannot prepare "${path}": there is no such file or folder`);
    }
    for (const other of seen) {
      const isInside = real === other.real || real.startsWith(`${other.real}/`);
      if (!isInside && !other.real.startsWith(`${real}/`)) continue;
      const [inner, outer] = isInside ? [path, other.path] : [other.path, path];
      throw new UsageError(
        `Cannot prepare "${inner}" and "${outer}": the first lies in the second, and its texts ` +
          "would count twice",
      );
    }
    seen.push({ path, real });
  }
}

/** The absolute path without links; null when there is nothing. */
function realPath(path: string): string | null {
  return ifThere(() => Deno.realPathSync(path));
}

/** Files in a path that the user named; a link among those is followed. */
function* walkRoot(
  { path, source }: CorpusPath,
  excluded: readonly (string | null)[],
  skipped: SkippedFile[],
): Generator<FoundFile> {
  const info = Deno.statSync(path);
  if (info.isDirectory) yield* walkFolder(path, Deno.realPathSync(path), source, excluded, skipped);
  else if (info.isFile) yield { path, size: info.size, source, isNamed: true };
  else skipped.push({ path, reason: "not a regular file" });
}

/** Files below a folder, sorted by name folder by folder. `real` is its absolute path. */
function* walkFolder(
  folder: string,
  real: string,
  source: string | null,
  excluded: readonly (string | null)[],
  skipped: SkippedFile[],
): Generator<FoundFile> {
  if (excluded.includes(real)) {
    return void skipped.push({ path: folder, reason: "the output folder" });
  }
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  for (const { name, isSymlink, isDirectory, isFile } of entries) {
    const path = join(folder, name);
    if (name.startsWith(".")) skipped.push({ path, reason: "hidden" });
    else if (isSymlink) skipped.push({ path, reason: "symbolic link" });
    else if (isDirectory) yield* walkFolder(path, join(real, name), source, excluded, skipped);
    else if (!isFile) skipped.push({ path, reason: "not a regular file" });
    else yield { path, size: Deno.statSync(path).size, source, isNamed: false };
  }
}
