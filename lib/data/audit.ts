// Reads prepared data back and compares it with its manifest: checksums, ids, and one end-of-sequence token a document.

import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { FormatError } from "../core/errors.ts";
import { PackedTokens } from "../io/packed_stream.ts";
import type { Manifest, ManifestSplit } from "./manifest.ts";

const BLOCK_TOKENS = 1 << 18;
const BLOCK_BYTES = 1 << 20;

/**
 * Checks every chunk file that `manifest` lists in `folder`. `pause` is awaited after each with the number of files
 * checked so far.
 * @throws {FormatError} naming what differs.
 */
export async function auditData(
  folder: string,
  manifest: Manifest,
  pause: (files: number) => Promise<void>,
): Promise<void> {
  let files = 0;
  for (const { name, train, validation } of manifest.sources) {
    for (const [part, split] of [["training", train], ["validation", validation]] as const) {
      for (const file of split.files) {
        checkSha256(join(folder, file.name), file.sha256);
        await pause(++files);
      }
      checkDocuments(folder, `${part} part of source "${name}"`, split, manifest);
      await pause(files);
    }
  }
}

function checkSha256(path: string, expected: string): void {
  const hash = createHash("sha256");
  const block = new Uint8Array(BLOCK_BYTES);
  const handle = openSync(path, "r");
  try {
    for (;;) {
      const count = readSync(handle, block, 0, block.length, null);
      if (count === 0) break;
      hash.update(block.subarray(0, count));
    }
  } finally {
    closeSync(handle);
  }
  const actual = hash.digest("hex");
  if (actual === expected) return;
  throw new FormatError(
    `Cannot use "${path}": it is damaged: its sha256 is ${actual}, expected ${expected}`,
  );
}

/** Separators must be as many as documents, and the last token must be one. */
function checkDocuments(
  folder: string,
  part: string,
  split: ManifestSplit,
  { tokenizer }: Manifest,
): void {
  const parts = split.files.map(({ name, tokens }) => ({ path: join(folder, name), tokens }));
  using stream = new PackedTokens(parts, tokenizer.vocab_size);
  const block = new Int32Array(Math.min(BLOCK_TOKENS, stream.length));
  let separators = 0;
  let last = tokenizer.eos_id;
  for (let first = 0; first < stream.length; first += block.length) {
    const count = Math.min(block.length, stream.length - first);
    stream.read(first, block, 0, count);
    for (let i = 0; i < count; i++) if (block[i] === tokenizer.eos_id) separators++;
    last = block[count - 1];
  }
  if (separators === split.documents && last === tokenizer.eos_id) return;
  throw new FormatError(
    `Cannot use the ${part} in "${folder}": it has ${separators} end-of-sequence tokens (id ` +
      `${tokenizer.eos_id}) and ends with token ${last}, expected ${split.documents} of them, ` +
      "one at the end of each document",
  );
}
