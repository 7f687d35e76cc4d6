// From texts to a folder of packed tokens: documents are found, split, tokenized, written and read back. The folder
// appears under its name when all of that is done.

import { join } from "node:path";
import { FormatError, UsageError } from "../core/errors.ts";
import { ifThere, namesIfThere, removeIfThere } from "../io/if_there.ts";
import { packedDType, PackedWriter } from "../io/packed_tokens.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { auditData } from "./audit.ts";
import { type CorpusPath, type CorpusSource, type SkippedFile, surveyCorpus } from "./corpus.ts";
import { checkDataTokenizer, saveDataTokenizer, tokenizerEntry } from "./data_tokenizer.ts";
import { DocumentReader, type TextDocument } from "./document.ts";
import {
  countReasons,
  type Manifest,
  MANIFEST_FORMAT,
  MANIFEST_NAME,
  MANIFEST_VERSION,
  type ManifestSplit,
  manifestText,
  originOf,
  SOURCE_NAME,
} from "./manifest.ts";
import { pauses } from "./pause.ts";
import { splitDocuments } from "./split.ts";

/** Tokens in a full chunk file: 1,024 blocks of 2,049, as in the original. */
export const DEFAULT_CHUNK_TOKENS = 2049 * 1024;
/** Share of each source's bytes that is held out. */
export const DEFAULT_VALIDATION_SHARE = 0.02;

/** What to prepare, and where to. */
export interface PrepareOptions {
  readonly paths: readonly CorpusPath[];
  /** The folder to make. */
  readonly output: string;
  /** Replace data that was prepared there before. */
  readonly force: boolean;
  readonly tokenizer: Tokenizer;
  /** What the manifest calls it. */
  readonly tokenizerName: string;
  readonly chunkTokens: number;
  /** From 0 to 0.5. */
  readonly validationShare: number;
  /** Aborting ends the work with the signal's reason and leaves no folder behind. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PrepareProgress) => void;
}

/** How far the work is. */
export type PrepareProgress =
  | { readonly phase: "reading"; readonly files: number; readonly bytes: number }
  | { readonly phase: "tokenizing"; readonly bytes: number; readonly totalBytes: number }
  | { readonly phase: "checking"; readonly files: number };

/** What was prepared, and every file that was not. */
export interface Prepared {
  readonly manifest: Manifest;
  readonly skipped: readonly SkippedFile[];
}

const UNFINISHED = ".unfinished";

/**
 * Prepares `options.paths`. The same texts and options give the same bytes.
 * @throws {UsageError} when the output is taken or cannot be made, or there is nothing to prepare.
 */
export async function prepare(options: PrepareOptions): Promise<Prepared> {
  const { output, tokenizer } = options;
  checkOptions(options);
  const reader = new DocumentReader();
  const pause = pauses(options.signal);
  const onProgress = options.onProgress ?? (() => {});
  const unfinished = output.replace(/[/\\]+$/, "") + UNFINISHED;
  const corpus = await surveyCorpus(options.paths, [output, unfinished], (files, bytes) => {
    onProgress({ phase: "reading", files, bytes });
    return pause();
  }, reader);
  if (corpus.sources.length === 0) throw nothingFound(corpus.skipped);
  removeIfThere(unfinished);
  makeFolder(unfinished, output);
  try {
    await saveDataTokenizer(tokenizer, unfinished);
    const writing = new Writing(options, unfinished, reader, corpus.sources, pause);
    const manifest: Manifest = {
      format: MANIFEST_FORMAT,
      version: MANIFEST_VERSION,
      origin: "prepared",
      tokenizer: tokenizerEntry(tokenizer, options.tokenizerName),
      dtype: packedDType(tokenizer.vocabSize),
      sources: await writing.sources(),
      skipped: countReasons(corpus.skipped),
    };
    await auditData(unfinished, manifest, (files) => {
      onProgress({ phase: "checking", files });
      return pause();
    });
    Deno.writeTextFileSync(join(unfinished, MANIFEST_NAME), manifestText(manifest));
    removeIfThere(output);
    Deno.renameSync(unfinished, output);
    return { manifest, skipped: corpus.skipped };
  } catch (error) {
    removeIfThere(unfinished);
    throw error;
  }
}

function checkOptions(options: PrepareOptions): void {
  const { chunkTokens, validationShare } = options;
  const check = (isRight: boolean, found: string, wanted: string) => {
    if (!isRight) throw new UsageError(`Cannot prepare with ${found}: expected ${wanted}`);
  };
  check(options.paths.length > 0, "no texts", "files or folders");
  check(
    Number.isSafeInteger(chunkTokens) && chunkTokens > 0 && chunkTokens < 2 ** 29,
    `${chunkTokens} tokens a chunk file`,
    "a whole number from 1 to 2^29 - 1",
  );
  check(
    validationShare >= 0 && validationShare <= 0.5,
    `a validation share of ${validationShare}`,
    "a number from 0 to 0.5",
  );
  for (const { source } of options.paths) {
    const isName = source === null || SOURCE_NAME.test(source);
    check(isName, `a source called "${source}"`, "letters, digits, - and _");
  }
  checkDataTokenizer(options.tokenizer, options.tokenizerName);
  checkOutput(options);
}

function checkOutput({ output, force }: PrepareOptions): void {
  if (ifThere(() => Deno.statSync(output).isFile)) {
    throw new UsageError(`Cannot prepare into "${output}": it is a file; choose a folder`);
  }
  const names = namesIfThere(output);
  if (names.length === 0) return;
  const refuse = (what: string): never => {
    throw new UsageError(`Cannot prepare into "${output}": it holds ${what}`);
  };
  const origin = originOf(output);
  if (origin === null) refuse(`something else ("${names[0]}"); choose a new folder`);
  if (origin === "adopted") refuse("chunk files of another program; choose a new folder");
  if (!force) refuse("prepared data; replace it with --force, or choose another folder");
}

function makeFolder(folder: string, output: string): void {
  try {
    Deno.mkdirSync(folder, { recursive: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`Cannot make the folder "${output}" to prepare into: ${reason}`);
  }
}

function nothingFound(skipped: readonly SkippedFile[]): UsageError {
  const shown = skipped.slice(0, 5).map(({ path, reason }) => `\n  ${path}: ${reason}`);
  const rest = skipped.length > 5 ? `\n  and ${skipped.length - 5} more` : "";
  const found = skipped.length === 0 ? "the folders are empty" : "found no text, only";
  return new UsageError(`Cannot prepare: ${found}${shown.join("")}${rest}`);
}

/** The tokenizing of all sources into one folder. */
class Writing {
  readonly #options: PrepareOptions;
  readonly #folder: string;
  readonly #reader: DocumentReader;
  readonly #sources: readonly CorpusSource[];
  readonly #pause: () => Promise<void>;
  readonly #totalBytes: number;
  #bytes = 0;
  #ids = new Int32Array(1 << 16);

  constructor(
    options: PrepareOptions,
    folder: string,
    reader: DocumentReader,
    sources: readonly CorpusSource[],
    pause: () => Promise<void>,
  ) {
    this.#options = options;
    this.#folder = folder;
    this.#reader = reader;
    this.#sources = sources;
    this.#pause = pause;
    this.#totalBytes = sources.reduce((sum, { documents }) => sum + bytesOf(documents), 0);
  }

  async sources(): Promise<Manifest["sources"]> {
    const { validationShare } = this.#options;
    const written: Manifest["sources"] = [];
    for (const { name, documents } of this.#sources) {
      const split = splitDocuments(documents, validationShare, this.#reader);
      const train = await this.#split(`train_${name}`, split.train);
      const validation = await this.#split(`validation_${name}`, split.validation);
      written.push({ name, train, validation });
    }
    return written;
  }

  async #split(prefix: string, documents: readonly TextDocument[]): Promise<ManifestSplit> {
    const { tokenizer, chunkTokens, onProgress } = this.#options;
    const dtype = packedDType(tokenizer.vocabSize);
    const writer = new PackedWriter(this.#folder, prefix, dtype, chunkTokens);
    let tokens = 0;
    for (const document of documents) {
      const count = this.#encode(document);
      writer.append(this.#ids, count);
      tokens += count;
      this.#bytes += document.length;
      onProgress?.({
        phase: "tokenizing",
        bytes: this.#bytes,
        totalBytes: this.#totalBytes,
      });
      await this.#pause();
    }
    const files = [...writer.finish()];
    return { documents: documents.length, tokens, bytes: bytesOf(documents), files };
  }

  /** Tokenizes a document with its separator into `#ids`; returns their number. */
  #encode(document: TextDocument): number {
    const { tokenizer } = this.#options;
    const text = this.#reader.read(document);
    const room = text.length + 3;
    if (this.#ids.length < room) this.#ids = new Int32Array(room);
    const count = tokenizer.encodeInto(text, this.#ids, 0, { addEos: true });
    const separator = this.#ids.indexOf(tokenizer.eosId);
    if (separator === count - 1) return count;
    throw new FormatError(
      `Cannot prepare "${document.path}": its text contains the end-of-sequence token (id ` +
        `${tokenizer.eosId}), which must only stand between documents`,
    );
  }
}

function bytesOf(documents: readonly TextDocument[]): number {
  return documents.reduce((sum, { length }) => sum + length, 0);
}
