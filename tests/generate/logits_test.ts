// Logits of given ids: any list of them, all positions or the last, and what is said to ids that cannot be.

import assert from "node:assert/strict";
import { computeLogits } from "../../lib/generate/logits.ts";
import { TOLERANCE } from "../backend/tolerances.ts";
import { openSmall, SMALL_MODEL } from "./generating_setup.ts";

Deno.test("ids are a plain list or an Int32Array; the last row alone is the last of all rows", async () => {
  using small = await openSmall();
  const ids = [1, 90, 5, 33];
  const all = await computeLogits(small.model, ids);
  assert.equal(all.length, ids.length * SMALL_MODEL.vocabSize);
  assert.deepEqual(await computeLogits(small.model, Int32Array.from(ids)), all);
  const last = await computeLogits(small.model, ids, "last");
  const wanted = all.subarray((ids.length - 1) * SMALL_MODEL.vocabSize);
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assert.equal(last.length, wanted.length);
  last.forEach((value, id) => {
    assert.ok(Math.abs(value - wanted[id]) <= TOLERANCE.f32 * largest, `logit of token ${id}`);
  });
});

Deno.test("ids that cannot be are named, with what was expected", async () => {
  using small = await openSmall();
  const refuses = (ids: readonly number[], message: RegExp) =>
    assert.rejects(computeLogits(small.model, ids), { name: "RangeError", message });
  await refuses([], /logits of 0 tokens: expected 1 to 640$/);
  await refuses(new Array(641).fill(1), /logits of 641 tokens: expected 1 to 640$/);
  for (const id of [-1, 97, 1.5, NaN, 2 ** 32 + 1]) {
    await refuses([1, id], new RegExp(`token ${id}: expected a whole number from 0 to 96$`));
  }
});
