// Reads a data folder back and compares it with its manifest: checksums, ids, and one end-of-sequence token a document.

import { FormatError } from "../core/errors.ts";
import { hashFile } from "../io/file_hash.ts";
import { examineChunk } from "./chunk_content.ts";
import { type Manifest, type ManifestSplit, partsOf } from "./manifest.ts";

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
      const what = `${part} part of source "${name}" in "${folder}"`;
      await auditSplit(what, folder, manifest, split, () => pause(++files));
    }
  }
}

/** Separators must be as many as documents, and the last token of what we prepared must be one. */
async function auditSplit(
  what: string,
  folder: string,
  { tokenizer, origin }: Manifest,
  split: ManifestSplit,
  pause: () => Promise<void>,
): Promise<void> {
  const { eos_id: eosId, vocab_size: vocabSize } = tokenizer;
  let separators = 0;
  let last = eosId;
  for (const [i, part] of partsOf(folder, split).entries()) {
    checkSha256(part.path, split.files[i].sha256);
    const content = examineChunk(part, vocabSize, [eosId]);
    separators += content.counts[0];
    last = content.last;
    await pause();
  }
  const endsRight = last === eosId || origin === "adopted";
  if (separators === split.documents && endsRight) return;
  throw new FormatError(
    `Cannot use the ${what}: it has ${separators} end-of-sequence tokens (id ${eosId}) and ends ` +
      `with token ${last}, expected ${split.documents} of them, one at the end of each document`,
  );
}

function checkSha256(path: string, expected: string): void {
  const { sha256 } = hashFile(path);
  if (sha256 === expected) return;
  throw new FormatError(
    `Cannot use "${path}": it is damaged: its sha256 is ${sha256}, expected ${expected}`,
  );
}
