// The index that loading looks pieces up in: ranges of a text, texts that differ only in length or at the end.

import assert from "node:assert/strict";
import { PieceIndex } from "../../lib/tokenizer/piece_index.ts";

Deno.test("finds ranges, not their neighbours", () => {
  const index = new PieceIndex(4);
  ["ab", "abc", "b", "é😀"].forEach((text, id) => index.add(text, id));
  assert.equal(index.find("xabcx", 1, 3), 0);
  assert.equal(index.find("xabcx", 1, 4), 1);
  assert.equal(index.find("xabcx", 2, 3), 2);
  assert.equal(index.find("é😀", 0, 3), 3);
  for (const [start, end] of [[0, 1], [0, 2], [1, 5], [2, 2]]) {
    assert.equal(index.find("xabcx", start, end), -1);
  }
});

Deno.test("refuses more texts than it has room for instead of searching forever", () => {
  const index = new PieceIndex(1);
  const fill = () => {
    for (let i = 0; i < 100; i++) index.add(`${i}`, i);
  };
  assert.throws(fill, { name: "RangeError" });
  assert.equal(index.find("0", 0, 1), 0);
  assert.equal(index.find("99", 0, 2), -1);
});
