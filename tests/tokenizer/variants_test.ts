// Small random vocabularies with every setting we claim to follow (equal scores, pieces with spaces
// inside, unknown pieces, Metaspace's schemes, user-defined and added tokens) against the ids of
// SentencePiece and Hugging Face tokenizers.

import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { readSentencePieceModel } from "../../lib/tokenizer/sentencepiece_model.ts";
import { Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { readTokenizerConfig, readTokenizerJson } from "../../lib/tokenizer/tokenizer_json.ts";

interface Variant {
  readonly name: string;
  readonly model?: string;
  readonly json?: string;
  readonly cases: readonly (readonly [string, readonly number[]])[];
}

const path = new URL("../golden/tokenizer/variants.json.gz", import.meta.url);
const variants: Variant[] = JSON.parse(
  new TextDecoder().decode(gunzipSync(Deno.readFileSync(path))),
);

function open(variant: Variant): Tokenizer {
  return new Tokenizer(
    variant.model === undefined
      ? readTokenizerJson(variant.json ?? "", variant.name, readTokenizerConfig(null, ""))
      : readSentencePieceModel(Uint8Array.fromBase64(variant.model), variant.name),
  );
}

Deno.test("the reference's ids for every variant", () => {
  assert.ok(variants.length >= 50);
  for (const variant of variants) {
    const tokenizer = open(variant);
    // Hugging Face always recognises special tokens, SentencePiece never.
    const parseSpecial = variant.json !== undefined;
    for (const [text, ids] of variant.cases) {
      const found = Array.from(tokenizer.encode(text, { parseSpecial }));
      assert.deepEqual(found, ids, `${variant.name}: ${JSON.stringify(text)}`);
    }
  }
});
