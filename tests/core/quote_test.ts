// Values in messages: what they are, never more than a line, whatever they hold.

import assert from "node:assert/strict";
import { quote, shorten } from "../../lib/core/quote.ts";

Deno.test("values are shown as they are written", () => {
  const cases: [unknown, string][] = [
    ["gpt2", '"gpt2"'],
    [1.5, "1.5"],
    [true, "true"],
    [null, "null"],
    [undefined, "nothing"],
    [{ a: 1 }, "an object"],
    [[], "[]"],
    [[1, "a", [2], null], '[1, "a", ..., null]'],
  ];
  for (const [value, text] of cases) assert.equal(quote(value), text);
});

Deno.test("long and deep values give short texts", () => {
  const deep: unknown = JSON.parse("[".repeat(100_000) + "]".repeat(100_000));
  assert.equal(quote(deep), "[...]");
  assert.equal(shorten("12345", 5), "12345");
  assert.equal(shorten("123456", 5), "12...");
  assert.equal(quote("x".repeat(1 << 20)), JSON.stringify("x".repeat(77) + "..."));
  assert.equal(
    quote(Array.from({ length: 1 << 20 }, (_, i) => i)),
    "[0, 1, 2, 3, 4, 5, 6, 7, ...]",
  );
  assert.ok(quote(new Array(9).fill("y".repeat(1000))).length < 120);
});
