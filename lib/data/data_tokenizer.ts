// The tokenizer of a data folder: its files beside the chunk files, its entry in the manifest.

import { UnsupportedError } from "../core/errors.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { saveTokenizer } from "../tokenizer/tokenizer_folder.ts";
import type { Manifest } from "./manifest.ts";

/** Transformers' word for a tokenizer without a limit of its own. */
const NO_LIMIT = 1e30;

/** @throws {UnsupportedError} for a tokenizer that cannot be saved beside data and in checkpoints; `name` says which. */
export function checkDataTokenizer(tokenizer: Tokenizer, name: string): void {
  if (tokenizer.vocabulary.bareCharacters.length === 0) return;
  throw new UnsupportedError(
    `Cannot prepare with the tokenizer "${name}": it merges characters that are no ` +
      "pieces, which a tokenizer.json cannot express",
  );
}

/** Writes the tokenizer's files into a data folder. */
export function saveDataTokenizer(tokenizer: Tokenizer, folder: string): Promise<void> {
  return saveTokenizer(tokenizer, folder, { addBos: false, modelMaxLength: NO_LIMIT });
}

/** What the manifest says about a tokenizer. */
export function tokenizerEntry(tokenizer: Tokenizer, name: string): Manifest["tokenizer"] {
  return {
    name,
    sha256: tokenizer.fingerprint(),
    vocab_size: tokenizer.vocabSize,
    eos_id: tokenizer.eosId,
  };
}
