// Saving and loading the tokenizer of a model folder. That transformers opens what is saved:
// tests/golden/tokenizer/README.md.

import assert from "node:assert/strict";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { loadTokenizer, saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";

Deno.test("a saved tokenizer is the same one", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const tokenizer = await llamaTokenizer();
    await saveTokenizer(tokenizer, folder, { addBos: false, modelMaxLength: 2048 });
    const loaded = await loadTokenizer(folder);
    assert.equal(loaded.fingerprint(), tokenizer.fingerprint());
    assert.equal(loaded.vocabulary.addsBos, false);
    for (const text of ["Hello  world", "", "   x\n\ty", "</s>", "é語\u0000", "=".repeat(99)]) {
      assert.deepEqual(loaded.encode(text), tokenizer.encode(text));
    }
    const options = { parseSpecial: true, addBos: true };
    assert.deepEqual(loaded.encode("a</s>b", options), tokenizer.encode("a</s>b", options));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("tokenizer.model wins, and a folder without either is refused", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await assert.rejects(loadTokenizer(folder), {
      name: "FormatError",
      message:
        `Cannot load a tokenizer from "${folder}": found neither tokenizer.model nor tokenizer.json`,
    });
    await Deno.writeTextFile(`${folder}/tokenizer.json`, "{}");
    await assert.rejects(loadTokenizer(folder), { message: /tokenizer\.json": model is missing/ });
    await Deno.writeFile(`${folder}/tokenizer.model`, new Uint8Array());
    await assert.rejects(loadTokenizer(folder), { message: /tokenizer\.model": it has no pieces/ });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
