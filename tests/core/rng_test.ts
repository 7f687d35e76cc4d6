// Philox against the vectors that Random123 publishes for philox4x32 with 10 rounds.

import assert from "node:assert/strict";
import { philox, unitFloat } from "../../lib/core/rng.ts";

const VECTORS = [
  {
    counter: [0, 0, 0, 0],
    key: [0, 0],
    words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
] as const;

Deno.test("philox() gives the published words", () => {
  for (const { counter, key, words } of VECTORS) {
    const out = new Uint32Array(4);
    const [k0, k1] = key, [c0, c1, c2, c3] = counter;
    philox(out, k0, k1, c0, c1, c2, c3);
    assert.deepEqual([...out], words);
    philox(out, k0 | 0, k1 | 0, c0 | 0, c1 | 0, c2 | 0, c3 | 0);
    assert.deepEqual([...out], words, "signed words mean the same");
  }
});

Deno.test("unitFloat() covers [0, 1) in steps of 2^-24", () => {
  assert.equal(unitFloat(0), 0);
  assert.equal(unitFloat(0xff), 0);
  assert.equal(unitFloat(0x100), 2 ** -24);
  assert.equal(unitFloat(0xffffffff), 1 - 2 ** -24);
  assert.equal(Math.fround(unitFloat(0xffffffff)), 1 - 2 ** -24);
});
