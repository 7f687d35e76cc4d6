// Our ids against those of SentencePiece and Hugging Face tokenizers;
// tests/golden/tokenizer/README.md tells how they were made. Every case also makes the round trip
// back to its bytes.

import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";

interface Case {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly ids: readonly number[];
}

function readCases(): Case[] {
  const path = new URL("../golden/tokenizer/golden.jsonl.gz", import.meta.url);
  const lines = new TextDecoder().decode(gunzipSync(Deno.readFileSync(path))).trimEnd().split("\n");
  return lines.map((line) => {
    const { text, hex, ids } = JSON.parse(line);
    const bytes = text === undefined ? Uint8Array.fromHex(hex) : new TextEncoder().encode(text);
    return { bytes, ids };
  });
}

Deno.test("the same ids as SentencePiece and Hugging Face, twice, and back", async () => {
  const cases = readCases();
  assert.ok(cases.length >= 2000);
  const tokenizer = await llamaTokenizer();
  for (const round of ["merged", "from the cache"]) {
    for (const { bytes, ids } of cases) {
      const found = Array.from(tokenizer.encode(bytes));
      assert.deepEqual(found, ids, `${round}: ${JSON.stringify(new TextDecoder().decode(bytes))}`);
    }
  }
  const metaspace = /\u2581/;
  for (const { bytes, ids } of cases) {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    const back = tokenizer.decodeBytes(ids);
    if (metaspace.test(text)) {
      assert.deepEqual(
        tokenizer.decodeBytes(tokenizer.encode(bytes, { keepsMetaspace: true })),
        bytes,
      );
    } else {
      assert.deepEqual(back, bytes);
    }
    const stream = tokenizer.streamDecoder();
    const pieces = ids.map((id) => stream.push(id));
    assert.equal(pieces.join("") + stream.flush(), tokenizer.decode(ids));
    assert.ok(pieces.every((piece) => piece.isWellFormed()));
  }
});
