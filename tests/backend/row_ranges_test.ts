// Tensors in pieces that a binding can hold and whose elements 32 bits can count.

import assert from "node:assert/strict";
import { rowRanges } from "../../lib/backend/webgpu/row_ranges.ts";
import { byteLengthOf } from "../../lib/core/dtype.ts";

/** The least limit of WebGPU, and what a large card grants. */
const SMALL = { maxBindingBytes: 2 ** 27 };
const LARGE = { maxBindingBytes: 2 ** 32 - 4 };

Deno.test("rows that fit are one range", () => {
  assert.deepEqual(rowRanges(SMALL, 1000, 4), [[0, 1000]]);
  assert.deepEqual(rowRanges(SMALL, 0, 4), []);
});

Deno.test("ranges cover all rows, each fits and ends at a multiple of 64 rows", () => {
  const rowBytes = 4 * 2048, ranges = rowRanges(SMALL, 32000, rowBytes);
  assert.deepEqual(ranges, [[0, 16320], [16320, 32000]]);
  assert.deepEqual(rowRanges(SMALL, 140, rowBytes, 64), [[0, 64], [64, 128], [128, 140]]);
});

Deno.test("a row that no binding holds is a range of its own", () => {
  assert.deepEqual(rowRanges(SMALL, 2, 2 ** 28), [[0, 1], [1, 2]]);
});

Deno.test("no range has more elements than 32 bits count, however large bindings are", () => {
  const width = 16384, count = 300_000;
  for (const dtype of ["f32", "bf16", "q8_0", "q4_0"] as const) {
    const ranges = rowRanges(LARGE, count, byteLengthOf(dtype, width));
    assert.equal(ranges[ranges.length - 1][1], count);
    for (const [first, end] of ranges) {
      assert.ok((end - first) * width < 2 ** 32, `${dtype}: ${end - first} rows`);
    }
  }
});
