// The mixture: shares after any number of samples, numbers within a source, and weights that do not fit the sources.

import assert from "node:assert/strict";
import { UsageError } from "../../lib/core/errors.ts";
import { Mixture, sourceShares } from "../../lib/data/mixture.ts";

const SHARES: readonly (readonly number[])[] = [
  [1],
  [0.7, 0.3],
  [0.693584, 0.306416],
  [0.5, 0.5],
  [5, 3, 2],
  [1, 1, 1, 1, 1, 1, 1],
  [0.9, 0.05, 0.03, 0.02],
  [99.5, 0.25, 0.25],
  [Math.PI, Math.E, Math.SQRT2, 0.001],
];

for (const shares of SHARES) {
  Deno.test(`shares ${shares.join(" : ")} hold to within one sample after any number of samples`, () => {
    const mixture = new Mixture(shares);
    const total = shares.reduce((a, b) => a + b);
    const counts = shares.map(() => 0);
    for (let sample = 0; sample < 150_000; sample++) {
      const source = mixture.sourceOf(sample);
      assert.equal(mixture.numberOf(sample), counts[source], `sample ${sample}`);
      counts[source]++;
      for (let i = 0; i < shares.length; i++) {
        // A share of no short period is rounded to 1 / 65536: 1.2 samples in 150,000.
        const rounding = mixture.period < 65536 ? 1e-9 : (sample + 1) / 65536 / 2 * shares.length;
        const error = Math.abs(counts[i] - (sample + 1) * shares[i] / total);
        assert.ok(error < 1 + rounding, `${error} off at sample ${sample}`);
      }
    }
  });
}

Deno.test("decimal shares are exact", () => {
  assert.deepEqual(new Mixture([0.7, 0.3]).counts, [7, 3]);
  assert.deepEqual(new Mixture([7, 3]).counts, [7, 3]);
  assert.deepEqual(new Mixture([0.693584, 0.306416]).counts, [43349, 19151]);
});

Deno.test("a source too small for its share still has samples", () => {
  const mixture = new Mixture([1, 1e-9]);
  assert.deepEqual(mixture.counts, [65535, 1]);
});

Deno.test("numbers go on beyond 2^32 samples", () => {
  const mixture = new Mixture([0.7, 0.3]);
  const far = 10 * 2 ** 40;
  for (let i = 0; i < 10; i++) {
    const source = mixture.sourceOf(i);
    assert.equal(mixture.sourceOf(far + i), source);
    assert.equal(mixture.numberOf(far + i), 2 ** 40 * [7, 3][source] + mixture.numberOf(i));
  }
});

Deno.test("weights are taken by name; without weights sources count by their tokens", () => {
  const sources = [{ name: "prose", tokens: 900 }, { name: "code", tokens: 100 }];
  assert.deepEqual(sourceShares(sources, { code: 0.3, prose: 0.7 }), [0.7, 0.3]);
  assert.deepEqual(sourceShares(sources, null), [900, 100]);
});

Deno.test("weights without a source and sources without a weight are named", () => {
  const sources = [{ name: "prose", tokens: 9 }, { name: "code", tokens: 1 }];
  const refusal = (weights: Record<string, number>, message: string) =>
    assert.throws(
      () => sourceShares(sources, weights),
      new UsageError(
        `Cannot mix by data.weights: ${message}; expected a weight for each of "prose", "code", ` +
          "or null, which takes sources by their size",
      ),
    );
  refusal({ prose: 1 }, 'there is no weight for source "code"');
  refusal({ prose: 1, code: 1, math: 1 }, 'the data has no source "math"');
  refusal(
    { toString: 1 },
    'the data has no source "toString", and there is no weight for source "prose", "code"',
  );
});
