// Chunk files of another program, such as the original TinyLlama code, become data to train on where they lie: all are
// read and counted, then the tokenizer and a manifest are put beside them. The chunk files themselves are never touched.

import { join } from "node:path";
import { FormatError, UsageError } from "../core/errors.ts";
import { hashFile } from "../io/file_hash.ts";
import { namesIfThere, sizeIfThere } from "../io/if_there.ts";
import { readPackedHeader } from "../io/packed_stream.ts";
import type { PackedHeader } from "../io/packed_tokens.ts";
import { llamaTokenizer, type Tokenizer } from "../tokenizer/tokenizer.ts";
import { loadTokenizer, TOKENIZER_FILES } from "../tokenizer/tokenizer_folder.ts";
import { type ChunkContent, examineChunk } from "./chunk_content.ts";
import { type ChunkName, compareChunkNames, parseChunkName } from "./chunk_name.ts";
import { checkDataTokenizer, saveDataTokenizer, tokenizerEntry } from "./data_tokenizer.ts";
import {
  countReasons,
  type Manifest,
  MANIFEST_FORMAT,
  MANIFEST_NAME,
  MANIFEST_VERSION,
  type ManifestSplit,
  manifestText,
} from "./manifest.ts";
import { pauses } from "./pause.ts";

/** What to adopt, and how to read it. */
export interface AdoptOptions {
  readonly folder: string;
  /** The folder of the tokenizer; null takes the one beside the chunk files or, where there is none, Llama's. */
  readonly tokenizer: string | null;
  /** Aborting ends the work with the signal's reason; nothing was written then. */
  readonly signal?: AbortSignal;
  /** `files` of `totalFiles` chunk files with `bytes` in all are read. */
  readonly onProgress?: (files: number, totalFiles: number, bytes: number) => void;
}

/** A file that was left out. */
export interface IgnoredFile {
  readonly path: string;
  readonly reason: "not named as a chunk file" | "of the test part" | "without tokens";
}

/** What was adopted. */
export interface Adopted {
  readonly manifest: Manifest;
  readonly skipped: readonly IgnoredFile[];
  /** What a person should know about the data, a sentence each. */
  readonly notes: readonly string[];
}

interface ChunkFile extends ChunkName {
  readonly fileName: string;
  readonly path: string;
  readonly header: PackedHeader;
}

const SHOWN_NAMES = 5;
const UNFINISHED = ".unfinished";

/**
 * Writes manifest.json and, unless it is there, the tokenizer into `options.folder`.
 * @throws {UsageError} when there is nothing to adopt, a manifest already, or another tokenizer.
 * @throws {FormatError} when a chunk file is damaged or has an id outside the vocabulary.
 */
export async function adopt(options: AdoptOptions): Promise<Adopted> {
  const { folder, onProgress = () => {} } = options;
  const names = namesToAdopt(folder);
  const { tokenizer, name, isSaved } = await chooseTokenizer(options);
  const pause = pauses(options.signal);
  const skipped: IgnoredFile[] = [];
  const chunks: ChunkFile[] = [];
  for (const fileName of names) {
    const chunk = openChunk(folder, fileName);
    if ("reason" in chunk) skipped.push(chunk);
    else chunks.push(chunk);
    await pause();
  }
  const dtype = commonDType(folder, chunks);
  const counting = new Counting(tokenizer, (files, bytes) => {
    onProgress(files, chunks.length, bytes);
    return pause();
  });
  const manifest: Manifest = {
    format: MANIFEST_FORMAT,
    version: MANIFEST_VERSION,
    origin: "adopted",
    tokenizer: tokenizerEntry(tokenizer, name),
    dtype,
    sources: await counting.sources(folder, chunks),
    skipped: countReasons(skipped),
  };
  if (!isSaved) await saveDataTokenizer(tokenizer, folder);
  const path = join(folder, MANIFEST_NAME);
  Deno.writeTextFileSync(path + UNFINISHED, manifestText(manifest));
  Deno.renameSync(path + UNFINISHED, path);
  return { manifest, skipped, notes: [...gapNotes(names), ...counting.notes] };
}

/** The .bin files of a folder that has some of them named as chunk files, and no manifest. */
function namesToAdopt(folder: string): readonly string[] {
  if (sizeIfThere(folder) === null) {
    throw new UsageError(`Cannot adopt "${folder}": there is no such folder`);
  }
  const names = namesIfThere(folder);
  if (names.includes(MANIFEST_NAME)) {
    throw new UsageError(
      `Cannot adopt "${folder}": it has a ${MANIFEST_NAME} already; compare it with the data by ` +
        `\`tinyllama prepare --verify --output ${folder}\`, or delete it first`,
    );
  }
  if (names.some((name) => parseChunkName(name) !== null)) {
    return names.filter((name) => name.endsWith(".bin"));
  }
  const shown = names.slice(0, SHOWN_NAMES).join(", ") + (names.length > SHOWN_NAMES ? ", …" : "");
  throw new UsageError(
    `Cannot adopt "${folder}": expected chunk files such as train_slimpajama_0_0000000000.bin, ` +
      `found ${names.length === 0 ? "no files" : `only ${shown}`}`,
  );
}

interface ChosenTokenizer {
  readonly tokenizer: Tokenizer;
  readonly name: string;
  /** Its files are in the folder. */
  readonly isSaved: boolean;
}

async function chooseTokenizer(
  { folder, tokenizer: from }: AdoptOptions,
): Promise<ChosenTokenizer> {
  const isSaved = namesIfThere(folder).some((one) => TOKENIZER_FILES.includes(one));
  const name = from ?? (isSaved ? folder : "llama");
  const tokenizer = name === "llama" && from === null
    ? await llamaTokenizer()
    : await loadTokenizer(name);
  checkDataTokenizer(tokenizer, name);
  const isOther = isSaved && from !== null &&
    (await loadTokenizer(folder)).fingerprint() !== tokenizer.fingerprint();
  if (!isOther) return { tokenizer, name, isSaved };
  throw new UsageError(
    `Cannot adopt "${folder}" with the tokenizer "${from}": the one that lies beside the chunk ` +
      "files is another",
  );
}

function openChunk(folder: string, fileName: string): ChunkFile | IgnoredFile {
  const name = parseChunkName(fileName);
  const path = join(folder, fileName);
  if (name === null) return { path, reason: "not named as a chunk file" };
  if (name.part === "test") return { path, reason: "of the test part" };
  const header = readPackedHeader(path);
  if (header.tokens === 0) return { path, reason: "without tokens" };
  return { ...name, fileName, path, header };
}

function commonDType(folder: string, chunks: readonly ChunkFile[]): Manifest["dtype"] {
  const [first] = chunks;
  if (first === undefined) {
    throw new UsageError(`Cannot adopt "${folder}": its chunk files hold nothing to train on`);
  }
  const other = chunks.find(({ header }) => header.dtype !== first.header.dtype);
  if (other === undefined) return first.header.dtype;
  throw new FormatError(
    `Cannot adopt "${folder}": "${first.fileName}" has tokens of ${first.header.dtype}, ` +
      `"${other.fileName}" of ${other.header.dtype}; expected one type`,
  );
}

/** Missing numbers: a file lost on the way leaves no other trace. */
function gapNotes(names: readonly string[]): string[] {
  const numbered = names.flatMap((fileName) => {
    const name = parseChunkName(fileName);
    if (name === null || name.part === "test") return [];
    return [{ stream: fileName.replace(/_\d{10}\.bin$/, ""), number: name.number }];
  });
  return [...Map.groupBy(numbered, ({ stream }) => stream)].flatMap(([stream, files]) => {
    const most = files.reduce((greatest, { number }) => Math.max(greatest, number), 0);
    const missing = most + 1 - files.length;
    if (missing === 0) return [];
    return [`${stream}: ${missing} of its numbers ${missing === 1 ? "has" : "have"} no chunk file`];
  });
}

/**
 * How many tokens at the end of a chunk file only fill it up: the original padded the last file of each process with the
 * separator. The first of them may belong to the text.
 */
function paddingOf({ last, lastRun }: ChunkContent, separators: readonly number[]): number {
  return separators.includes(last) ? lastRun - 1 : 0;
}

/** The reading of all chunk files, source by source. */
class Counting {
  /** Collected on the way. */
  readonly notes: string[] = [];
  readonly #tokenizer: Tokenizer;
  readonly #pause: (files: number, bytes: number) => Promise<void>;
  #files = 0;
  #bytes = 0;

  constructor(tokenizer: Tokenizer, pause: (files: number, bytes: number) => Promise<void>) {
    this.#tokenizer = tokenizer;
    this.#pause = pause;
  }

  async sources(folder: string, chunks: readonly ChunkFile[]): Promise<Manifest["sources"]> {
    const bySource = [...Map.groupBy(chunks, ({ source }) => source)];
    for (const [name, files] of bySource) {
      if (files.some(({ part }) => part === "train")) continue;
      throw new UsageError(
        `Cannot adopt "${folder}": source "${name}" has validation files only, such as ` +
          `"${files[0].fileName}"; expected training files beside them`,
      );
    }
    const sources: Manifest["sources"] = [];
    for (const [name, files] of bySource.sort(([a], [b]) => a < b ? -1 : 1)) {
      const of = (wanted: ChunkName["part"]) =>
        files.filter(({ part }) => part === wanted).sort(compareChunkNames);
      const train = await this.#split(`${name}, training`, of("train"));
      const validation = await this.#split(`${name}, validation`, of("validation"));
      sources.push({ name, train, validation });
    }
    return sources;
  }

  async #split(what: string, chunks: readonly ChunkFile[]): Promise<ManifestSplit> {
    const { eosId, bosId, vocabSize } = this.#tokenizer;
    const files: ManifestSplit["files"] = [];
    let documents = 0, begins = 0, padded = 0;
    for (const { fileName, path, header } of chunks) {
      const { bytes, sha256 } = hashFile(path);
      const content = examineChunk({ path, tokens: header.tokens }, vocabSize, [eosId, bosId]);
      const padding = paddingOf(content, [eosId, bosId]);
      documents += content.counts[0] - (content.last === eosId ? padding : 0);
      begins += content.counts[1] - (content.last === bosId ? padding : 0);
      padded += padding;
      const tokens = header.tokens - padding;
      files.push({ name: fileName, tokens, ...(padding > 0 ? { padding } : {}), sha256 });
      await this.#pause(++this.#files, this.#bytes += bytes);
    }
    const tokens = files.reduce((sum, file) => sum + file.tokens, 0);
    if (padded > 0) this.notes.push(`${what}: ${padded} tokens of padding are not used`);
    if (documents === 0 && tokens > 0) {
      this.notes.push(
        `${what}: no end-of-sequence token (id ${eosId}) ends its documents, and ${begins} ` +
          `begin-of-sequence tokens (id ${bosId}) begin some; a model learns no end from it`,
      );
    }
    return { documents, tokens, bytes: null, files };
  }
}
