// Reading tokenizer.json and tokenizer_config.json: forms that are accepted, and the message for
// each one that is not. That accepted settings give Hugging Face's ids is variants_test.ts's
// affair.

import assert from "node:assert/strict";
import { Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { readTokenizerConfig, readTokenizerJson } from "../../lib/tokenizer/tokenizer_json.ts";

const METASPACE = {
  type: "Metaspace",
  replacement: "▁",
  prepend_scheme: "first",
  split: false,
};
const LLAMA_CONFIG = readTokenizerConfig(null, "tokenizer_config.json");

function json(model: object = {}, root: object = {}): string {
  return JSON.stringify({
    added_tokens: [
      { id: 0, content: "<unk>", special: true },
      { id: 1, content: "<s>", special: true },
      { id: 2, content: "</s>", special: true },
    ],
    normalizer: null,
    pre_tokenizer: METASPACE,
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: false,
      vocab: { "<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, a: 4, b: 5, "▁a": 6, ab: 7 },
      merges: ["▁ a", "a b"],
      ...model,
    },
    ...root,
  });
}

const read = (text: string) => readTokenizerJson(text, "x/tokenizer.json", LLAMA_CONFIG);

Deno.test("merges as strings and as pairs are the same", () => {
  for (const merges of [["▁ a", "a b"], [["▁", "a"], ["a", "b"]]]) {
    const tokenizer = new Tokenizer(read(json({ merges })));
    assert.deepEqual(Array.from(tokenizer.encode("ab ab")), [6, 5, 6, 5]);
  }
});

Deno.test("added tokens beyond the vocabulary get their ids, holes stay empty", () => {
  const added_tokens = [
    { id: 0, content: "<unk>", special: true },
    { id: 1, content: "<s>", special: true },
    { id: 2, content: "</s>", special: true },
    { id: 10, content: "<call>", special: false },
  ];
  const tokenizer = new Tokenizer(read(json({}, { added_tokens })));
  assert.equal(tokenizer.vocabSize, 11);
  assert.deepEqual(Array.from(tokenizer.encode("a<call>b")), [6, 10, 5]);
  assert.equal(tokenizer.decode([6, 10, 5]), "a<call>b");
});

Deno.test("a vocabulary that is mostly holes loads like any other", () => {
  const vocab = { "<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, a: 4, b: 5, "▁a": 6, ab: 1_000_000 };
  const tokenizer = new Tokenizer(read(json({ vocab })));
  assert.equal(tokenizer.vocabSize, 1_000_001);
  assert.deepEqual(Array.from(tokenizer.encode("bab")), [3, 5, 1_000_000]);
});

Deno.test("merges that no text can reach do no harm", () => {
  const vocab = {
    "<unk>": 0,
    "<s>": 1,
    "</s>": 2,
    "▁": 3,
    x: 4,
    z: 5,
    xq: 6,
    xqz: 7,
    é: 8,
    "é語z": 9,
  };
  const tokenizer = new Tokenizer(
    read(json({ vocab: { ...vocab, "é語": 10 }, merges: ["xq z", "é語 z"] })),
  );
  assert.deepEqual(Array.from(tokenizer.encode("xqz語z")), [3, 4, 0, 5, 0, 5]);
});

const BYTE_LEVEL = { type: "ByteLevel", add_prefix_space: false };
const REFUSALS: readonly (readonly [problem: string | RegExp, text: string])[] = [
  [/it is not JSON: /, "{"],
  ["it holds [1], expected an object", "[1]"],
  ["model is missing, expected an object", "{}"],
  ['its model is "WordPiece", expected "BPE" over characters', json({ type: "WordPiece" })],
  [
    "it is a byte-level BPE (GPT-2's kind), expected Llama's BPE with byte_fallback",
    json({}, { pre_tokenizer: { type: "Sequence", pretokenizers: [BYTE_LEVEL] } }),
  ],
  ['model.end_of_word_suffix is "</w>", expected null', json({ end_of_word_suffix: "</w>" })],
  ["model.dropout is 0.1, expected null", json({ dropout: 0.1 })],
  ["model.ignore_merges is true, expected false", json({ ignore_merges: true })],
  [
    'its normalizer does {"type":"NFKC"}, expected Prepend "▁" and Replace " " by "▁"',
    json({}, { normalizer: { type: "NFKC" } }),
  ],
  [
    'neither normalizer nor pre_tokenizer turns spaces into "▁"',
    json({}, { pre_tokenizer: null }),
  ],
  [
    'its pre_tokenizer is {"type":"Whitespace"}, expected Metaspace with "▁"',
    json({}, { pre_tokenizer: { type: "Whitespace" } }),
  ],
  [
    'prepend_scheme is "last", expected always, first or never',
    json({}, { pre_tokenizer: { ...METASPACE, prepend_scheme: "last" } }),
  ],
  [
    "byte_fallback is on and byte pieces are missing, expected all 256",
    json({
      byte_fallback: true,
    }),
  ],
  ["it has neither byte_fallback nor an unk_token", json({ unk_token: null })],
  ['merge 0 is "a b c", expected two pieces', json({ merges: ["a b c"] })],
  [
    'merge 1, "b a", names a piece that is not in the vocabulary',
    json({
      merges: ["a b", "b a"],
    }),
  ],
  ['piece "a" has id -4, expected 0 to 1048575', json({ vocab: { a: -4 } })],
  ['piece "a" has id 1e+300, expected 0 to 1048575', json({ vocab: { a: 1e300 } })],
  ["piece 8 is not valid Unicode", json({ vocab: { "\ud800": 8 } })],
  ['pieces "a" and "b" both have id 4', json({ vocab: { a: 4, b: 4 }, merges: [] })],
  [
    'added token "<x>" has lstrip, which is not supported',
    json({}, {
      added_tokens: [{ id: 8, content: "<x>", lstrip: true }],
    }),
  ],
  [
    'bos_token "<s>" is not in the vocabulary',
    json(
      { vocab: { "<unk>": 0, "</s>": 1 }, merges: [] },
      { added_tokens: [] },
    ),
  ],
];

Deno.test("names what it refuses", () => {
  for (const [problem, text] of REFUSALS) {
    const start = 'Cannot load "x/tokenizer.json": ';
    assert.throws(() => read(text), (error: Error) => {
      assert.equal(error.name, "FormatError");
      if (typeof problem === "string") assert.equal(error.message, start + problem);
      else assert.match(error.message, problem);
      return true;
    });
  }
});

Deno.test("the configuration names BOS and EOS, as text or as an object", () => {
  const text = JSON.stringify({
    bos_token: { content: "<bos>" },
    eos_token: "<eos>",
    add_bos_token: false,
  });
  assert.deepEqual(readTokenizerConfig(text, "c"), {
    bosToken: "<bos>",
    eosToken: "<eos>",
    addsBos: false,
  });
  assert.throws(() => readTokenizerConfig('{"add_bos_token": 1}', "c"), {
    message: 'Cannot load "c": add_bos_token is 1, expected true or false',
  });
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  assert.throws(() => readTokenizerConfig(`{"add_bos_token": ${deep}}`, "c"), {
    message: `Cannot load "c": add_bos_token is ${"[".repeat(77)}..., expected true or false`,
  });
  assert.throws(() => readTokenizerConfig('{"eos_token": 2}', "c"), {
    message: 'Cannot load "c": eos_token is not a token, expected a string',
  });
});
