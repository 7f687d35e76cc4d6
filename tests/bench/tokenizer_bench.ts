// Speed of the tokenizer on prose and code, one thread, in MB of UTF-8 per second; not a test. With
// --python PATH the same texts go through sentencepiece and Hugging Face tokenizers
// (tokenizer_peer.py) and the ids are compared. Prints a table and, as the last line, one JSON
// object. Texts should be 8 MB or more and UTF-8; without FILE the repository's own are repeated,
// which flatters the cache.
//
//   deno run -A tests/bench/tokenizer_bench.ts [--prose FILE] [--code FILE] [--passes N]
//     [--python PATH] [--json FILE]

// deno-lint-ignore-file no-console
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { llamaTokenizer, type Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import { writeReport } from "./report.ts";

/** Texts are encoded in blocks of whole lines of about this size, as documents are. */
const BLOCK_BYTES = 1 << 12;
const DEFAULT_BYTES = 8e6;
const NEWLINE = 10;

interface Result {
  /**
   * MB/s of the first pass with a fresh tokenizer; for prose, which comes first, the compiler is
   * cold too.
   */
  readonly first: number;
  /**
   * MB/s of the first pass of another fresh tokenizer: the compiler is warm, every chunk is new to
   * the cache.
   */
  readonly coldCache: number;
  /** Median MB/s of the passes after that. */
  readonly steady: number;
  readonly tokens: number;
  readonly sha256: string;
}

function blocksOf(text: Uint8Array): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  for (let start = 0; start < text.length;) {
    let end = Math.min(text.length, start + BLOCK_BYTES);
    if (end < text.length) {
      const newline = text.lastIndexOf(NEWLINE, end - 1);
      if (newline >= start) end = newline + 1;
    }
    blocks.push(text.subarray(start, end));
    start = end;
  }
  return blocks;
}

/** Encodes all blocks into `ids`. Returns seconds and where each block's ids end. */
function pass(tokenizer: Tokenizer, blocks: readonly Uint8Array[], ids: Int32Array) {
  const start = performance.now();
  let at = 0;
  for (const block of blocks) at = tokenizer.encodeInto(block, ids, at);
  return { seconds: (performance.now() - start) / 1000, tokens: at };
}

async function measure(text: Uint8Array, passes: number): Promise<Result> {
  const blocks = blocksOf(text);
  const megabytes = text.length / 1e6;
  const ids = new Int32Array(text.length + 3 + blocks.length);
  const first = pass(await llamaTokenizer(), blocks, ids);
  const tokenizer = await llamaTokenizer();
  const coldCache = pass(tokenizer, blocks, ids);
  const steady = Array.from({ length: passes }, () => pass(tokenizer, blocks, ids).seconds)
    .sort((a, b) => a - b);
  const digest = createHash("sha256").update(
    new Uint8Array(ids.buffer, 0, first.tokens * Int32Array.BYTES_PER_ELEMENT),
  );
  return {
    first: megabytes / first.seconds,
    coldCache: megabytes / coldCache.seconds,
    steady: megabytes / steady[Math.floor(passes / 2)],
    tokens: first.tokens,
    sha256: digest.digest("hex"),
  };
}

/** Files of this repository with these extensions, repeated up to the default size. */
function ownText(extensions: readonly string[]): Uint8Array {
  const root = new URL("../../", import.meta.url).pathname;
  const parts: string[] = [];
  const visit = (folder: string) => {
    for (const entry of [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1)) {
      if (entry.name.startsWith(".") || entry.name === "dist") continue;
      const path = `${folder}${entry.name}`;
      if (entry.isDirectory) visit(`${path}/`);
      else if (extensions.some((ext) => entry.name.endsWith(ext))) {
        parts.push(Deno.readTextFileSync(path));
      }
    }
  };
  visit(root);
  const once = new TextEncoder().encode(parts.join("\n"));
  const text = new Uint8Array(once.length * Math.ceil(DEFAULT_BYTES / once.length));
  for (let at = 0; at < text.length; at += once.length) text.set(once, at);
  return text;
}

type Rates = Omit<Result, "coldCache"> & Partial<Result>;

function printTable(kind: string, bytes: number, rates: Readonly<Record<string, Rates>>): void {
  const best = Math.max(
    ...Object.entries(rates).filter(([name]) => name !== "tinyllama").map(([, r]) => r.steady),
  );
  console.log(`${kind}, ${(bytes / 1e6).toFixed(1)} MB      first  cold cache  steady  MB/s`);
  for (const [name, { first, coldCache, steady, sha256 }] of Object.entries(rates)) {
    const cells = [first, coldCache ?? NaN, steady].map((rate) =>
      (Number.isNaN(rate) ? "" : rate.toFixed(1)).padStart(9)
    );
    const ids = sha256 === rates.tinyllama.sha256 ? "same ids" : "OTHER IDS";
    const ratio = Math.min(first, coldCache ?? first) / best;
    const ours = best > 0 ? `${ratio.toFixed(1)} x the best peer even when cold` : "";
    const note = name === "tinyllama" ? ours : ids;
    console.log(`  ${name.padEnd(15)}${cells.join(" ")}  ${note}`);
  }
}

async function peers(
  python: string,
  textPath: string,
  passes: number,
  folder: string,
): Promise<Record<string, Rates>> {
  const script = new URL("tokenizer_peer.py", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(python, {
    args: [script, `${folder}/tokenizer.json`, textPath, String(passes)],
  }).output();
  if (!success) throw new Error(`${python} failed:\n${new TextDecoder().decode(stderr)}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    prose: { type: "string" },
    code: { type: "string" },
    passes: { type: "string", default: "3" },
    python: { type: "string" },
    json: { type: "string" },
  },
});
const folder = await Deno.makeTempDir();
try {
  await saveTokenizer(await llamaTokenizer(), folder, { addBos: true, modelMaxLength: 2048 });
  const passes = Number(values.passes);
  const report: Record<string, unknown> = {};
  for (const kind of ["prose", "code"] as const) {
    const given = values[kind];
    const text = given === undefined
      ? ownText(kind === "prose" ? [".md", "LICENSE"] : [".ts", ".c", ".h", ".py", ".yaml"])
      : Deno.readFileSync(given);
    const path = `${folder}/${kind}.txt`;
    Deno.writeFileSync(path, text);
    const rates = {
      tinyllama: await measure(text, passes),
      ...(values.python === undefined ? {} : await peers(values.python, path, passes, folder)),
    };
    printTable(kind, text.length, rates);
    report[kind] = { bytes: text.length, repeatsItself: given === undefined, ...rates };
  }
  writeReport(values.json, report);
  console.log(JSON.stringify(report));
} finally {
  await Deno.remove(folder, { recursive: true });
}
