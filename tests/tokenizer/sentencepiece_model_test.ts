// Reading tokenizer.model: what it takes over, what it refuses, and that damaged files end in a
// FormatError.

import assert from "node:assert/strict";
import { FormatError } from "../../lib/core/errors.ts";
import { philox } from "../../lib/core/rng.ts";
import { readSentencePieceModel } from "../../lib/tokenizer/sentencepiece_model.ts";
import { Tokenizer } from "../../lib/tokenizer/tokenizer.ts";

type Piece = readonly [piece: string, score: number, type: number];

const HEAD: readonly Piece[] = [["<unk>", 0, 2], ["<s>", 0, 3], ["</s>", 0, 3]];
const BYTES: readonly Piece[] = Array.from({ length: 256 }, (_, i) => {
  return [`<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`, 0, 6];
});
const PIECES: readonly Piece[] = [...HEAD, ...BYTES, ["▁", -1, 1], ["a", -2, 1], ["▁a", -3, 1]];

function varint(value: number): number[] {
  const out: number[] = [];
  for (let left = BigInt.asUintN(64, BigInt(value));; left >>= 7n) {
    if (left < 128n) return [...out, Number(left)];
    out.push(Number(left & 127n) | 128);
  }
}

const numberField = (field: number, value: number) => [...varint(field << 3), ...varint(value)];
const bytesField = (field: number, content: ArrayLike<number>) => [
  ...varint(field << 3 | 2),
  ...varint(content.length),
  ...Array.from(content),
];

/**
 * A model with Llama's settings; `trainer` and `normalizer` are fields put after them, so they
 * override.
 */
function model(
  pieces: readonly Piece[],
  trainer: readonly number[] = [],
  normalizer: readonly number[] = [],
): Uint8Array {
  const out: number[] = [];
  for (const [piece, score, type] of pieces) {
    const float = new Uint8Array(Float32Array.of(score).buffer);
    out.push(...bytesField(1, [
      ...bytesField(1, new TextEncoder().encode(piece)),
      ...varint(2 << 3 | 5),
      ...float,
      ...numberField(3, type),
    ]));
  }
  const settings = [...numberField(3, 2), ...numberField(35, 1), ...numberField(43, -1)];
  out.push(...bytesField(2, [...settings, ...trainer]));
  out.push(...bytesField(3, [...numberField(3, 1), ...numberField(4, 0), ...normalizer]));
  return Uint8Array.from(out);
}

Deno.test("reads pieces, kinds and settings", () => {
  const vocabulary = readSentencePieceModel(model(PIECES), "tokenizer.model");
  assert.deepEqual(vocabulary.pieces.slice(-2), ["a", "▁a"]);
  assert.deepEqual([vocabulary.unkId, vocabulary.bosId, vocabulary.eosId], [0, 1, 2]);
  const tokenizer = new Tokenizer(vocabulary);
  assert.deepEqual(Array.from(tokenizer.encode("a b")), [261, 259, 3 + 0x62]);
});

Deno.test("names what it refuses", () => {
  const cases: readonly (readonly [string, Uint8Array])[] = [
    ["its model type is 1, expected 2 (BPE)", model(PIECES, numberField(3, 1))],
    ["it treats spaces as suffixes, expected prefixes", model(PIECES, numberField(24, 1))],
    [
      "its normalizer has 3 bytes of rules, expected the identity",
      model(PIECES, [], bytesField(2, [1, 2, 3])),
    ],
    [
      "it removes extra spaces, expected remove_extra_whitespaces false",
      model(PIECES, [], numberField(4, 1)),
    ],
    [
      "it does not escape spaces, expected escape_whitespaces true",
      model(PIECES, [], numberField(5, 0)),
    ],
    [
      "byte fallback is on and byte pieces are missing, expected all 256",
      model(PIECES.toSpliced(9, 1)),
    ],
    [
      "it has byte pieces and byte fallback is off, expected both or none",
      model(PIECES, numberField(35, 0)),
    ],
    ['piece "a" appears twice', model([...PIECES, ["a", -4, 1]])],
    ["piece 262 is empty", model([...PIECES, ["", -4, 1]])],
    ["piece 262 is of type 9, expected 1 to 6", model([...PIECES, ["b", -4, 9]])],
    ["piece 262 has score NaN, expected a finite number", model([...PIECES, ["b", NaN, 1]])],
    ["it has 0 unknown pieces, expected one", model(PIECES.slice(1), numberField(41, 0))],
    ["BOS is piece -1 of kind none, expected a control piece", model(PIECES, numberField(41, -1))],
    [
      'unused piece "aa" can occur in a text, which is not supported',
      model([...PIECES, ["aa", -4, 5]]),
    ],
    ["it has no pieces, expected a SentencePiece model", new Uint8Array()],
    [
      "a field of 90 bytes reaches past the end, 1 are left",
      Uint8Array.of(1 << 3 | 2, 90, 0),
    ],
    ["it ends inside a number", Uint8Array.of(0x80)],
    ["a number in it has more than ten bytes", new Uint8Array(20).fill(0x80)],
    [
      "a field has wire type 3; it is not a SentencePiece model",
      new TextEncoder().encode("{\n"),
    ],
  ];
  for (const [problem, bytes] of cases) {
    assert.throws(() => readSentencePieceModel(bytes, "x/tokenizer.model"), {
      name: "FormatError",
      message: `Cannot load "x/tokenizer.model": ${problem}`,
    });
  }
});

Deno.test("damaged models load or end in a FormatError, nothing else", () => {
  const whole = model([...HEAD, ["▁", -1, 1], ["a", -2, 1], ["▁a", -3, 1]], numberField(35, 0));
  const words = new Uint32Array(4);
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    philox(words, 11, 0, i, 0);
    const bytes = whole.slice(0, i % 3 === 0 ? words[2] % whole.length : whole.length);
    if (bytes.length > 0) bytes[words[0] % bytes.length] = words[1];
    try {
      new Tokenizer(readSentencePieceModel(bytes, "damaged")).encode("a aa");
    } catch (error) {
      assert.ok(error instanceof FormatError, `case ${i}: ${error}`);
      refused++;
    }
  }
  assert.ok(refused > 1000);
});
