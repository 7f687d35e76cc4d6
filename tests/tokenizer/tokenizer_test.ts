// What encode and decode add to the ids themselves: prefix, BOS, EOS, special tokens, raw bytes,
// streaming.

import assert from "node:assert/strict";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";

const tokenizer = await llamaTokenizer();
const encode = (text: string, options = {}) => Array.from(tokenizer.encode(text, options));

Deno.test("BOS and EOS are added on request, also to the empty text", () => {
  assert.deepEqual(encode("Hello world"), [15043, 3186]);
  assert.deepEqual(encode("Hello world", { addBos: true, addEos: true }), [1, 15043, 3186, 2]);
  assert.deepEqual(encode("", { addBos: true, addEos: true }), [1, 2]);
  assert.deepEqual(encode(""), []);
});

Deno.test("special tokens are text unless they are asked for", () => {
  assert.deepEqual(encode("</s>"), [1533, 29879, 29958]);
  assert.deepEqual(encode("</s>", { parseSpecial: true }), [2]);
  assert.deepEqual(encode("Hello</s><s>Hello", { parseSpecial: true }), [15043, 2, 1, 15043]);
  assert.equal(tokenizer.decode([15043, 2, 15043]), "Hello Hello");
  assert.equal(tokenizer.decode([1, 15043, 2], { special: true }), "<s> Hello</s>");
});

Deno.test("exactly one space is taken from the front when decoding", () => {
  for (const text of [" ", "  ", "   a", "\n a", "a  ", " \u00a0", "\ufeffa", "\u0000 "]) {
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
    assert.equal(tokenizer.decode(tokenizer.encode(text, { addBos: true })), text);
  }
  assert.equal(tokenizer.decode([15043], { isContinuation: true }), " Hello");
  assert.equal(tokenizer.decode([3 + 0x20, 15043]), "  Hello");
});

Deno.test("every byte survives alone and between others", () => {
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  const inReverse = all.toReversed();
  for (const bytes of [all, inReverse, ...Array.from(all, (byte) => Uint8Array.of(byte))]) {
    assert.deepEqual(tokenizer.decodeBytes(tokenizer.encode(bytes)), bytes);
  }
});

Deno.test("U+2581 is a space, or itself on request", () => {
  assert.deepEqual(encode("a▁b"), encode("a b"));
  assert.equal(tokenizer.decode(encode("a▁b")), "a b");
  const kept = tokenizer.encode("▁a▁ b▁", { keepsMetaspace: true });
  assert.equal(tokenizer.decode(kept), "▁a▁ b▁");
  assert.deepEqual(
    encode("no such character", { keepsMetaspace: true }),
    encode("no such character"),
  );
});

Deno.test("encodeInto appends and asks for room for the worst case", () => {
  const ids = new Int32Array(20).fill(-1);
  const end = tokenizer.encodeInto("Hello", ids, 3, { addEos: true });
  assert.deepEqual(Array.from(ids.subarray(0, end + 1)), [-1, -1, -1, 15043, 2, -1]);
  assert.throws(() => tokenizer.encodeInto("Hello world", ids, 7), {
    name: "RangeError",
    message: "Cannot encode 11 bytes into 13 ids: expected room for 14",
  });
});

Deno.test("a text far larger than the ones before and one after it", () => {
  const text = "All work and no play makes Jack a dull boy. ".repeat(120_000);
  assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  assert.deepEqual(encode("Hello world"), [15043, 3186]);
});

Deno.test("streaming never gives half a character", () => {
  const text = "ok 👩‍💻 語𠜎é\u0301!";
  const ids = tokenizer.encode(text);
  const stream = tokenizer.streamDecoder();
  const parts = Array.from(ids, (id) => stream.push(id));
  assert.ok(parts.includes(""), "some id is only part of a character");
  assert.ok(parts.every((part) => part.isWellFormed() && !part.includes("\ufffd")));
  assert.equal(parts.join("") + stream.flush(), text);

  const cut = tokenizer.streamDecoder({ isContinuation: true });
  assert.equal(cut.push(15043) + cut.push(3 + 0xf0) + cut.push(3 + 0x9f), " Hello");
  assert.equal(cut.flush(), "\ufffd");
});

Deno.test("ids outside the vocabulary are refused", () => {
  for (const id of [-1, 32000, 1.5, NaN]) {
    const message = `Cannot decode token ${id}: expected an id from 0 to 31999`;
    assert.throws(() => tokenizer.decode([15043, id]), { name: "RangeError", message });
    assert.throws(() => tokenizer.streamDecoder().push(id), { name: "RangeError", message });
  }
});
