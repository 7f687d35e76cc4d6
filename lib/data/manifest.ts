// manifest.json of a folder of packed tokens: which tokenizer, which sources, which chunk files, and how much is in them.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { FormatError } from "../core/errors.ts";
import { quote, shorten } from "../core/quote.ts";
import { ifThere } from "../io/if_there.ts";
import { readJson } from "../io/json_file.ts";
import type { PackedPart } from "../io/packed_stream.ts";
import { parseChunkName } from "./chunk_name.ts";

/** Name of the file. */
export const MANIFEST_NAME = "manifest.json";
/** What `format` says; other programs have files of that name, too. */
export const MANIFEST_FORMAT = "tinyllama packed tokens";
/** What `version` says. */
export const MANIFEST_VERSION = 1;

/** What a source may be called: its name becomes part of file names and of configuration keys. */
export const SOURCE_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*$/;

/** Characters of what is wrong in a message. */
const MAX_REASON = 200;

const count = () => z.int().min(0);
const sha256 = () => z.string().regex(/^[0-9a-f]{64}$/, "expected a SHA-256 in hex");

const splitSchema = z.strictObject({
  /** Each ends with one end-of-sequence token, and there are no others. */
  documents: count(),
  tokens: count(),
  /** Of the text; null where nobody knows. */
  bytes: count().nullable(),
  /** Chunk files in the order of their tokens. */
  files: z.array(z.strictObject({
    // A slash could lead out of the folder.
    name: z.string().regex(/^[^/\\\0]+\.bin$/, "expected the name of a .bin file beside it"),
    tokens: count().min(1),
    /** Tokens behind these that only fill up the file; absent for none. */
    padding: count().optional(),
    sha256: sha256(),
  })),
});

const manifestSchema = z.strictObject({
  format: z.literal(MANIFEST_FORMAT),
  version: z.literal(MANIFEST_VERSION),
  /**
   * Who made the chunk files: `prepared` ones are ours; `adopted` ones were there before, cannot be made again, and may
   * break off within a document.
   */
  origin: z.enum(["prepared", "adopted"]).default("prepared"),
  tokenizer: z.strictObject({
    name: z.string(),
    sha256: sha256(),
    vocab_size: count().min(1),
    eos_id: count(),
  }),
  dtype: z.enum(["u8", "i8", "i16", "i32", "i64", "u16"]),
  sources: z.array(z.strictObject({
    name: z.string().regex(SOURCE_NAME, "expected letters, digits, - and _"),
    train: splitSchema,
    validation: splitSchema,
  })).min(1),
  /** Files that were left out, by reason. */
  skipped: z.record(z.string(), count()),
});

/** The content of manifest.json. */
export type Manifest = z.output<typeof manifestSchema>;
/** A source in it. */
export type ManifestSource = Manifest["sources"][number];
/** The training or validation part of a source. */
export type ManifestSplit = z.output<typeof splitSchema>;

/** SHA-256 in hex of what the training order is made of: names of sources, and lengths and checksums of their chunks. */
export function trainingFingerprint({ sources }: Manifest): string {
  const hash = createHash("sha256");
  for (const { name, train } of sources) {
    hash.update(`${name}\n`);
    for (const { tokens, sha256 } of train.files) hash.update(`${tokens} ${sha256}\n`);
  }
  return hash.digest("hex");
}

/** The text of manifest.json. */
export function manifestText(manifest: Manifest): string {
  return JSON.stringify(manifest, null, 2) + "\n";
}

/**
 * Reads manifest.json of `folder` and checks that it agrees with itself.
 * @throws {FormatError} when it is not there or not what it should be.
 */
export function readManifest(folder: string): Manifest {
  const path = join(folder, MANIFEST_NAME);
  const value = ifThere(() => readJson(path));
  if (value === null) throw missing(folder);
  const result = manifestSchema.safeParse(value);
  if (!result.success) {
    const { path: keys, message } = result.error.issues[0];
    throw new FormatError(
      `Cannot read "${path}": ${quote(keys.join("."))}: ${shorten(message, MAX_REASON)}`,
    );
  }
  checkSums(result.data, path);
  return result.data;
}

/**
 * Who made the data in `folder` by its manifest, of whatever version; null without a manifest of ours.
 * @throws {FormatError} when there is a manifest that is not JSON.
 */
export function originOf(folder: string): Manifest["origin"] | null {
  const value = ifThere(() => readJson(join(folder, MANIFEST_NAME)));
  const isOurs = typeof value === "object" && value !== null && "format" in value &&
    value.format === MANIFEST_FORMAT;
  if (!isOurs) return null;
  return "origin" in value && value.origin === "adopted" ? "adopted" : "prepared";
}

/** The stream of tokens that a part of a source is. */
export function partsOf(folder: string, { files }: ManifestSplit): PackedPart[] {
  return files.map(({ name, tokens, padding }) => ({ path: join(folder, name), tokens, padding }));
}

/** How many files were left out for each reason. */
export function countReasons(skipped: readonly { readonly reason: string }[]) {
  const counts: Manifest["skipped"] = {};
  for (const { reason } of skipped) counts[reason] = (counts[reason] ?? 0) + 1;
  return counts;
}

function missing(folder: string): FormatError {
  const names = ifThere(() => [...Deno.readDirSync(folder)].map(({ name }) => name)) ?? [];
  const chunks = names.filter((name) => parseChunkName(name) !== null).length;
  return new FormatError(
    `Cannot open the data in "${folder}": there is no ${MANIFEST_NAME}; ` +
      (chunks === 0
        ? `make it with: tinyllama prepare TEXTS --output ${folder}`
        : `make it for the ${chunks} chunk files there with: tinyllama adopt ${folder}`),
  );
}

function checkSums({ sources }: Manifest, path: string): void {
  const names = new Set<string>();
  for (const { name, train, validation } of sources) {
    if (names.has(name)) throw new FormatError(`Cannot read "${path}": source "${name}" is twice`);
    names.add(name);
    for (const { files, tokens } of [train, validation]) {
      const sum = files.reduce((total, file) => total + file.tokens, 0);
      if (sum === tokens) continue;
      throw new FormatError(
        `Cannot read "${path}": the files of source "${name}" have ${sum} tokens, expected ${tokens}`,
      );
    }
  }
}
