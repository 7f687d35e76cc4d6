// deno-lint-ignore-file no-console
// `tinyllama prepare`: text files and source folders in, a folder of packed tokens with its manifest out.

import { Command } from "commander";
import { UsageError } from "../core/errors.ts";
import { auditData } from "../data/audit.ts";
import type { CorpusPath } from "../data/corpus.ts";
import { readManifest } from "../data/manifest.ts";
import {
  DEFAULT_CHUNK_TOKENS,
  DEFAULT_VALIDATION_SHARE,
  prepare,
  type PrepareProgress,
} from "../data/prepare.ts";
import { llamaTokenizer } from "../tokenizer/tokenizer.ts";
import { loadTokenizer } from "../tokenizer/tokenizer_folder.ts";
import { inGroups, skippedText, tableText } from "./data_table.ts";
import { collect, numberFlag } from "./flags.ts";
import { openProgress, type Progress, speedText } from "./progress.ts";
import { interruptible } from "./signals.ts";

interface Flags {
  readonly output: string;
  readonly source?: readonly string[];
  readonly tokenizer?: string;
  readonly chunkTokens: string;
  readonly validationShare: string;
  readonly force?: true;
  readonly verify?: true;
  readonly json?: true;
}

const EXAMPLES = `
Examples:
  tinyllama prepare docs/ book.txt --output data/mine
  tinyllama prepare --source prose=books/ --source code=src/ --output data/mine
  tinyllama prepare corpus/ --tokenizer TinyLlama-1.1B --validation-share 0.05 --output data/mine
  tinyllama prepare --verify --output data/mine

Each text file is one document; a file over 16 MiB is cut at line ends into several. Documents end with one
end-of-sequence token, follow each other without padding, and part of each source is held out for validation.
Folders are searched for prose (.md, .txt, LICENSE, ...) and code (.ts, .py, .c, ...); under a name given with
--source every text file belongs to that source. Train on the result with
--set data.path=data/mine --set data.weights.prose=0.7 --set data.weights.code=0.3.`;

/** The subcommand. */
export function prepareCommand(): Command {
  return new Command("prepare")
    .description("Tokenize texts into a folder to pretrain on")
    .argument("[paths...]", "text files and folders, sorted into the sources prose and code")
    .requiredOption("--output <folder>", "the folder to make")
    .option("--source <name=path>", "a path of the source NAME; may be repeated", collect)
    .option("--tokenizer <folder>", "the tokenizer of a model folder instead of Llama's")
    .option("--chunk-tokens <count>", "tokens in a chunk file", String(DEFAULT_CHUNK_TOKENS))
    .option(
      "--validation-share <share>",
      "held out of the bytes of each source",
      String(DEFAULT_VALIDATION_SHARE),
    )
    .option("--force", "replace what was prepared in the folder before")
    .option("--verify", "read prepared data and compare it with its manifest; changes nothing")
    .option("--json", "one JSON object on stdout instead of a table")
    .addHelpText("after", EXAMPLES)
    .action(async (paths: readonly string[], flags: Flags) => {
      const named = (flags.source ?? []).map(namedPath);
      const all = [...named, ...paths.map((path) => ({ path, source: null }))];
      if (flags.verify) await verify(flags, all.length);
      else await run(all, flags);
    });
}

function namedPath(text: string): CorpusPath {
  const equals = text.indexOf("=");
  if (equals > 0 && equals < text.length - 1) {
    return { source: text.slice(0, equals), path: text.slice(equals + 1) };
  }
  throw new UsageError(`Cannot use --source ${text}: expected NAME=PATH, such as code=src/`);
}

async function run(paths: readonly CorpusPath[], flags: Flags): Promise<void> {
  if (paths.length === 0) {
    throw new UsageError(
      "Cannot prepare nothing: expected files or folders, or --source NAME=PATH",
    );
  }
  const tokenizer = flags.tokenizer === undefined
    ? await llamaTokenizer()
    : await loadTokenizer(flags.tokenizer);
  using stop = interruptible("Interrupted: what was prepared so far is deleted");
  using progress = openProgress();
  const { manifest, skipped } = await prepare({
    paths,
    output: flags.output,
    force: flags.force === true,
    tokenizer,
    tokenizerName: flags.tokenizer ?? "llama",
    chunkTokens: numberFlag("--chunk-tokens", flags.chunkTokens),
    validationShare: numberFlag("--validation-share", flags.validationShare),
    signal: stop.signal,
    onProgress: shows(progress),
  });
  progress[Symbol.dispose]();
  if (flags.json) console.log(JSON.stringify({ output: flags.output, manifest, skipped }));
  else console.log(`${skippedText(skipped)}${tableText(manifest)}\nWrote ${flags.output}`);
}

async function verify(flags: Flags, pathCount: number): Promise<void> {
  if (pathCount > 0) {
    throw new UsageError("Cannot verify and prepare at once: --verify takes no texts");
  }
  const manifest = readManifest(flags.output);
  using progress = openProgress();
  const show = shows(progress);
  await auditData(flags.output, manifest, (files) => {
    show({ phase: "checking", files });
    return Promise.resolve();
  });
  if (flags.json) console.log(JSON.stringify({ output: flags.output, manifest }));
  else console.log(`${tableText(manifest)}\n${flags.output} is as its manifest says`);
}

const BAR_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 5000;

/** Shows kilobytes tokenized with their speed, and lines about what goes on before and after when that takes long. */
function shows(progress: Progress): (state: PrepareProgress) => void {
  let barMs = -Infinity;
  let lineMs = performance.now();
  let first: { readonly ms: number; readonly bytes: number } | null = null;
  return (state) => {
    const now = performance.now();
    if (state.phase === "tokenizing") {
      const { bytes, totalBytes } = state;
      first ??= { ms: now, bytes };
      if (now - barMs < BAR_INTERVAL_MS && bytes < totalBytes) return;
      barMs = now;
      const speed = speedText(bytes - first.bytes, now - first.ms);
      progress.update(Math.ceil(bytes / 1000), Math.ceil(totalBytes / 1000), speed, "kB");
    } else if (now - lineMs >= LINE_INTERVAL_MS) {
      lineMs = now;
      progress.line(phaseText(state));
    }
  };
}

function phaseText(state: Exclude<PrepareProgress, { readonly phase: "tokenizing" }>): string {
  if (state.phase === "checking") return `checked ${inGroups(state.files)} chunk files`;
  return `found ${inGroups(state.files)} files, ${inGroups(Math.round(state.bytes / 1e6))} MB`;
}
