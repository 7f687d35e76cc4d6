// From prompts to text and back: BOS, stop strings, end tokens, the context, reproducible drawing, model folders.

import assert from "node:assert/strict";
import { complete, generate, type TextModel } from "../../lib/generate/generate.ts";
import { openLanguageModel } from "../../lib/generate/language_model.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { resolveSampling, resolveSeed } from "../../lib/generate/sampling.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { inTempFolder } from "../temp_folder.ts";
import { logSoftmax, openSmall, TEXT_MODEL, writeTextModel } from "./generating_setup.ts";

const GREEDY = { temperature: 0, maxTokens: 20 };

async function openText(): Promise<Disposable & TextModel> {
  const small = await openSmall(TEXT_MODEL);
  return {
    model: small.model,
    tokenizer: await llamaTokenizer(),
    eosIds: [2],
    [Symbol.dispose]: () => small[Symbol.dispose](),
  };
}

Deno.test("pieces together are the text, which is the decoded tokens", async () => {
  using model = await openText();
  let text = "";
  const prompts = ["Once upon a time"];
  for await (const piece of generate(model, prompts, { seed: 5, maxTokens: 40 })) {
    assert.ok(piece.text.isWellFormed());
    text += piece.text;
    if (piece.completion === null) continue;
    const { tokens, finishReason, promptTokens, seed } = piece.completion;
    const ids = tokens.map(({ id }) => id);
    assert.equal(piece.completion.text, text);
    assert.equal(text, model.tokenizer.decode(ids, { isContinuation: true }));
    assert.deepEqual([finishReason, promptTokens, seed, ids.length], ["length", 5, 5, 40]);
  }
  assert.notEqual(text, "");
});

Deno.test("text after an empty prompt begins without the space of its first piece", async () => {
  using model = await openText();
  const { pieces } = model.tokenizer.vocabulary;
  let spaced = 0;
  for (let seed = 0; seed < 20; seed++) {
    const [{ text, tokens }] = await complete(model, [""], { seed, maxTokens: 2, topP: 1 });
    if (pieces[tokens[0].id].startsWith("▁")) spaced++;
    assert.equal(text, model.tokenizer.decode(tokens.map(({ id }) => id)));
  }
  assert.ok(spaced > 0);
});

Deno.test("BOS as the vocabulary says, or as asked for; an empty prompt begins a document", async () => {
  using model = await openText();
  const { tokenizer } = model;
  const cases = [
    { prompt: "Hi", addBos: undefined, ids: tokenizer.encode("Hi", { addBos: true }) },
    { prompt: "Hi", addBos: false, ids: tokenizer.encode("Hi") },
    { prompt: "", addBos: true, ids: Int32Array.of(1) },
    { prompt: "", addBos: false, ids: Int32Array.of(2) },
  ];
  for (const { prompt, addBos, ids } of cases) {
    const [{ tokens, promptTokens }] = await complete(model, [prompt], { ...GREEDY, addBos });
    const logProbs = logSoftmax(await computeLogits(model.model, ids, "last"));
    assert.equal(promptTokens, ids.length);
    assert.equal(tokens[0].id, logProbs.indexOf(Math.max(...logProbs)));
    assert.ok(Math.abs(tokens[0].logProb - logProbs[tokens[0].id]) < 1e-4);
  }
  const prompt = "a</s>";
  const [plain] = await complete(model, [prompt], GREEDY);
  const [parsed] = await complete(model, [prompt], { ...GREEDY, parseSpecial: true });
  assert.deepEqual([plain.promptTokens, parsed.promptTokens], [5, 3]);
});

Deno.test("a stop string ends the text before it, wherever tokens begin", async () => {
  using model = await openText();
  const [whole] = await complete(model, ["The"], GREEDY);
  const { text, tokens } = whole;
  // From the middle of one token into the next ones.
  const start = text.length >> 1;
  for (const length of [1, 4, 9]) {
    const stop = text.slice(start, start + length);
    const [cut] = await complete(model, ["The"], { ...GREEDY, stop: ["never", stop] });
    assert.equal(cut.text, text.slice(0, text.indexOf(stop)));
    assert.equal(cut.finishReason, "stop");
    assert.ok(cut.tokens.length <= tokens.length);
  }
});

Deno.test("an end token ends the text and is none of it", async () => {
  using model = await openText();
  const [whole] = await complete(model, ["The"], GREEDY);
  const ids = whole.tokens.map(({ id }) => id);
  const eosId = ids[7];
  const [cut] = await complete({ ...model, eosIds: [99, eosId] }, ["The"], GREEDY);
  const end = ids.indexOf(eosId);
  assert.equal(cut.finishReason, "eos");
  assert.deepEqual(cut.tokens.map(({ id }) => id), ids.slice(0, end + 1));
  assert.equal(cut.text, model.tokenizer.decode(ids.slice(0, end), { isContinuation: true }));
});

Deno.test("the context ends the text; a prompt that fills it is refused with both lengths", async () => {
  using model = await openText();
  const prompt = "one two three four five";
  const [{ finishReason, promptTokens, tokens }] = await complete(model, [prompt], {
    ...GREEDY,
    maxTokens: 1000,
  });
  assert.deepEqual([finishReason, promptTokens + tokens.length], ["context", TEXT_MODEL.maxSeqLen]);
  await assert.rejects(complete(model, ["word ".repeat(63).trim()], GREEDY), {
    name: "UsageError",
    message: "Cannot continue a prompt of 64 tokens: the model's context is 64 tokens for prompt " +
      "and text together",
  });
});

Deno.test("a token that only the tokenizer has is refused by its piece", async () => {
  using model = await openText();
  const { config } = model.model;
  const few = { ...model, model: { ...model.model, config: { ...config, vocabSize: 9000 } } };
  await assert.rejects(complete(few, "Once", GREEDY), {
    name: "UsageError",
    message: 'Cannot continue a prompt with "▁Once": it is token 9038, the model has only 9000',
  });
});

Deno.test("a token that only the model has is no text", async () => {
  const config = { ...TEXT_MODEL, vocabSize: 32064 };
  using small = await openSmall(config);
  // Two opposite rows: one of them always wins.
  const head = new Float32Array(config.vocabSize * config.hiddenSize);
  head.fill(100, 32010 * config.hiddenSize, 32011 * config.hiddenSize);
  head.fill(-100, 32020 * config.hiddenSize, 32021 * config.hiddenSize);
  small.backend.write(small.params.root.lmHead, head);
  const model = { model: small.model, tokenizer: await llamaTokenizer(), eosIds: [2] };
  const [{ text, tokens, finishReason }] = await complete(model, "The", {
    ...GREEDY,
    maxTokens: 5,
  });
  assert.deepEqual([text, finishReason], ["", "length"]);
  assert.ok(tokens.every(({ id }) => id === 32010 || id === 32020));
});

Deno.test("many prompts give what each gives alone, in their order", async () => {
  using model = await openText();
  const prompts = ["Once upon", "", "def f(x):", "Über", "a b c d e f g h"];
  const options = { temperature: 0, maxTokens: 15, batchSize: 2, stop: ["ar"] };
  const together = await complete(model, prompts, options);
  assert.deepEqual(together.map(({ prompt }) => prompt), prompts);
  for (const [index, prompt] of prompts.entries()) {
    const [alone] = await complete(model, [prompt], options);
    assert.equal(together[index].text, alone.text);
    assert.equal(together[index].finishReason, alone.finishReason);
  }
  assert.deepEqual(await complete(model, [], options), []);
});

Deno.test("the same seed gives the same text; without one the seed is told", async () => {
  using model = await openText();
  const [first] = await complete(model, ["The"], { maxTokens: 20 });
  const [again] = await complete(model, ["The"], { maxTokens: 20, seed: first.seed });
  const [other] = await complete(model, ["The"], { maxTokens: 20, seed: first.seed + 1 });
  assert.equal(again.text, first.text);
  assert.notEqual(other.text, first.text);
});

Deno.test("an aborted completion rejects with the reason", async () => {
  using model = await openText();
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(complete(model, ["The"], { signal }), /enough/);
});

Deno.test("options out of range are refused by name", () => {
  const refusals: [Parameters<typeof resolveSampling>[0], RegExp][] = [
    [{ temperature: -1 }, /temperature -1: expected 0 or above/],
    [{ temperature: Infinity }, /temperature Infinity: expected 0 or above/],
    [{ topK: 1.5 }, /top-k 1.5: expected a whole number, 0 or above/],
    [{ topP: 0 }, /top-p 0: expected above 0 and at most 1/],
    [{ topP: 1.01 }, /top-p 1.01: expected above 0 and at most 1/],
    [{ minP: NaN }, /min-p NaN: expected from 0 to 1/],
    [{ repetitionPenalty: 0 }, /repetition penalty 0: expected above 0/],
  ];
  for (const [options, message] of refusals) {
    assert.throws(() => resolveSampling(options), { name: "UsageError", message });
  }
  assert.equal(resolveSampling({ topK: 3 }).topK, 3);
  assert.throws(() => resolveSeed(-1), /seed -1: expected a whole number from 0 to/);
  assert.equal(resolveSeed(12), 12);
});

Deno.test("counts out of range are refused before anything is allocated", async () => {
  using model = await openText();
  const { backend } = model.model;
  const before = backend.allocatedBytes;
  const refusals: [object, RegExp][] = [
    [{ maxTokens: 0 }, /max-tokens 0: expected a whole number above 0/],
    [{ batchSize: 2.5 }, /batch-size 2.5: expected a whole number above 0/],
    [{ stop: [""] }, /Cannot stop at an empty text/],
  ];
  for (const [options, message] of refusals) {
    await assert.rejects(complete(model, ["a"], options), { name: "UsageError", message });
  }
  assert.equal(backend.allocatedBytes, before);
});

Deno.test("a folder opens with its tokenizer; of generation_config.json only end tokens count", () =>
  inTempFolder(async (folder) => {
    await writeTextModel(folder, { addBos: false, eosIds: [7, 8] });
    using model = await openLanguageModel(folder, { device: "cpu", threads: 2, precision: "f32" });
    using memory = await openText();
    assert.deepEqual(model.eosIds, [7, 8]);
    assert.equal(model.tokenizer.vocabulary.addsBos, false);
    const [stored] = await complete(model, ["The"], { seed: 3, maxTokens: 9 });
    const [expected] = await complete(memory, ["The"], { seed: 3, maxTokens: 9, addBos: false });
    assert.equal(stored.text, expected.text);
    assert.equal(stored.promptTokens, 1);
    Deno.writeTextFileSync(`${folder}/generation_config.json`, '{"eos_token_id": "x"}');
    await assert.rejects(openLanguageModel(folder), {
      name: "FormatError",
      message: /generation_config.json": "eos_token_id" is "x", expected token ids/,
    });
    Deno.removeSync(`${folder}/generation_config.json`);
    using plain = await openLanguageModel(folder, { weights: "q8_0" });
    assert.deepEqual(plain.eosIds, TEXT_MODEL.eosIds);
    assert.equal(plain.loaded.weights, "q8_0");
  }));
