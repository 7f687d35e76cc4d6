// Saving and loading the tokenizer of a model folder. That transformers opens what is saved:
// tests/golden/tokenizer/README.md.

import assert from "node:assert/strict";
import { join } from "node:path";
import { llamaTokenizer, Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { loadTokenizer, saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import { inTempFolder } from "../temp_folder.ts";

Deno.test("a saved tokenizer is the same one", () =>
  inTempFolder(async (folder) => {
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
  }));

Deno.test("tokenizer.json wins, as it alone has the added tokens, and a folder without either is refused", () =>
  inTempFolder(async (folder) => {
    await assert.rejects(loadTokenizer(folder), {
      name: "FormatError",
      message:
        `Cannot load a tokenizer from "${folder}": found neither tokenizer.json nor tokenizer.model`,
    });
    await assert.rejects(loadTokenizer(join(folder, "nowhere")), { message: /no such folder/ });
    Deno.writeFileSync(join(folder, "tokenizer.model"), new Uint8Array());
    await assert.rejects(loadTokenizer(folder), { message: /tokenizer\.model": it has no pieces/ });
    await saveTokenizer(await llamaTokenizer(), folder, { addBos: true, modelMaxLength: 2048 });
    const path = join(folder, "tokenizer.json");
    const json = JSON.parse(Deno.readTextFileSync(path));
    json.added_tokens.push({ ...json.added_tokens[0], id: 32000, content: "<|im_start|>" });
    Deno.writeTextFileSync(path, JSON.stringify(json));
    const loaded = await loadTokenizer(folder);
    const ids = loaded.encode("<|im_start|>user", { parseSpecial: true });
    assert.deepEqual([...ids], [32000, 1404]);
    Deno.writeTextFileSync(path, "{}");
    await assert.rejects(loadTokenizer(folder), { message: /tokenizer\.json": model is missing/ });
  }));

Deno.test("what tokenizer.json cannot hold is refused, and nothing is written", () =>
  inTempFolder(async (folder) => {
    const { vocabulary } = await llamaTokenizer();
    const tokenizer = new Tokenizer({ ...vocabulary, bareCharacters: ["\u{1f9ff}"] });
    const saving = saveTokenizer(tokenizer, folder, { addBos: true, modelMaxLength: 64 });
    await assert.rejects(saving, {
      name: "UnsupportedError",
      message: /1 characters such as "\u{1f9ff}" are merged without being pieces/u,
    });
    assert.deepEqual([...Deno.readDirSync(folder)], []);
  }));

Deno.test("a normalized added token takes the space before it along, as in transformers", () =>
  inTempFolder(async (folder) => {
    const settings = { addBos: true, modelMaxLength: 64 };
    await saveTokenizer(await llamaTokenizer(), folder, settings);
    const path = join(folder, "tokenizer.json");
    const json = JSON.parse(Deno.readTextFileSync(path));
    const token = { ...json.added_tokens[0], id: 32000, content: "<think>" };
    json.added_tokens.push({ ...token, normalized: true, special: false });
    Deno.writeTextFileSync(path, JSON.stringify(json));
    const loaded = await loadTokenizer(folder);
    await saveTokenizer(loaded, folder, settings);
    // The ids of tokenizers 0.23.2.
    const cases: readonly (readonly [string, readonly number[]])[] = [
      ["a <think> b", [263, 32000, 289]],
      ["<think>x</s>y", [32000, 29916, 2, 343]],
      ["a<think>b", [263, 29966, 386, 682, 29958, 29890]],
      ["<think> <think>", [32000, 32000]],
      ["  <think>  y<think>", [259, 32000, 29871, 343, 29966, 386, 682, 29958]],
    ];
    for (const tokenizer of [loaded, await loadTokenizer(folder)]) {
      for (const [text, ids] of cases) {
        assert.deepEqual([...tokenizer.encode(text, { parseSpecial: true })], ids, text);
      }
    }
  }));

Deno.test("normalized special tokens do so too, and only where special tokens are asked for", () =>
  inTempFolder(async (folder) => {
    const settings = { addBos: true, modelMaxLength: 64 };
    await saveTokenizer(await llamaTokenizer(), folder, settings);
    const path = join(folder, "tokenizer.json");
    const json = JSON.parse(Deno.readTextFileSync(path));
    for (const token of json.added_tokens) token.normalized = true;
    Deno.writeTextFileSync(path, JSON.stringify(json));
    const loaded = await loadTokenizer(folder);
    await saveTokenizer(loaded, folder, settings);
    // The ids of tokenizers 0.23.2.
    const cases: readonly (readonly [string, readonly number[]])[] = [
      ["Hello</s>", [15043, 829, 29879, 29958]],
      ["Hello </s>", [15043, 2]],
      ["</s>Hello</s>", [2, 10994, 829, 29879, 29958]],
      ["<s>  </s> <s>x", [1, 29871, 2, 1, 29916]],
      ["a<unk> <unk>", [263, 29966, 2960, 29958, 0]],
    ];
    for (const tokenizer of [loaded, await loadTokenizer(folder)]) {
      for (const [text, ids] of cases) {
        assert.deepEqual([...tokenizer.encode(text, { parseSpecial: true })], ids, text);
      }
      assert.deepEqual(
        tokenizer.encode("Hello </s>"),
        (await llamaTokenizer()).encode("Hello </s>"),
      );
    }
  }));
