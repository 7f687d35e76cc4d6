// Drawing tokens: every option alone and together, ties, counters, vocabularies of several sizes, the random numbers.

import assert from "node:assert/strict";
import type { SamplingOptions } from "../../../lib/core/ops.ts";
import { philox } from "../../../lib/core/rng.ts";
import { seeded } from "../../reference/finite_differences.ts";
import { sampleToken } from "../../reference/sampling.ts";
import { conformance } from "./conformance.ts";
import { ids, integers, type OpCase, opCase, output, real, type RealOperand } from "./op_case.ts";

const PLAIN: SamplingOptions = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
};
const OPTIONS: readonly Partial<SamplingOptions>[] = [
  ...[{}, { temperature: 0 }, { temperature: 0.3 }, { temperature: 2.5 }],
  // The reciprocal of this one is no f32.
  ...[{ temperature: 1e-40 }, { temperature: 1e-40, topK: 5 }, { temperature: 1e-40, topP: 0.5 }],
  ...[{ topK: 1 }, { topK: 7 }, { topK: 1000 }, { topP: 0.001 }, { topP: 0.6 }, { topP: 0.97 }],
  ...[{ minP: 0.05 }, { minP: 0.6 }, { minP: 1 }],
  ...[{ repetitionPenalty: 1.7 }, { repetitionPenalty: 1.7, temperature: 0 }],
  ...[{ topK: 20, topP: 0.8 }, { topK: 20, minP: 0.1 }, { topP: 0.9, minP: 0.02 }],
  { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1 },
  { temperature: 1.5, topK: 3, topP: 0.5, repetitionPenalty: 0.8 },
];

/** A case with B rows; the reference must be sure of every token, whatever f32 rounds. */
function sampleCase(
  name: string,
  options: SamplingOptions,
  logits: RealOperand,
  counts: Int32Array | null,
  seed: number,
): OpCase {
  const [B, V] = logits.shape;
  const rng = ids(3 * B, 2 ** 31, seed).map((word, i) => i % 2 === 0 ? word : ~word);
  const positions = ids(B, 5000, seed + 1);
  const draws = Array.from(positions, (position, b) => {
    const row = (x: Float64Array) => x.subarray(b * V, (b + 1) * V);
    const seen = counts === null ? null : counts.subarray(b * V, (b + 1) * V);
    const key = rng.subarray(3 * b, 3 * b + 3);
    return sampleToken(row(logits.values), seen, key, position, options);
  });
  for (const { margin } of draws) assert.ok(margin > 1e-6, `${name}: undecided, margin ${margin}`);
  const tensors = {
    tokens: output("i32", [B]),
    positions: integers([B], positions),
    logProbs: output("f32", [B]),
    logits: { ...logits, isScratch: true },
    rng: integers([B, 3], rng),
  };
  const expected = {
    tokens: { values: Int32Array.from(draws, (draw) => draw.token) },
    positions: { values: positions.map((position) => position + 1) },
    logProbs: { values: Float64Array.from(draws, (draw) => draw.logProb) },
  };
  if (counts === null) {
    return opCase(
      name,
      tensors,
      (ops, t) =>
        ops.sampleToken(t.tokens, t.positions, t.logProbs, t.logits, null, t.rng, options),
      expected,
    );
  }
  const after = counts.slice();
  draws.forEach(({ token }, b) => after[b * V + token]++);
  return opCase(
    name,
    { ...tensors, seen: integers([B, V], counts) },
    (ops, t) =>
      ops.sampleToken(t.tokens, t.positions, t.logProbs, t.logits, t.seen, t.rng, options),
    { ...expected, seen: { values: after } },
  );
}

/** Logits (B, V) whose probabilities fall over orders of magnitude, as a trained model's do; the more, the `steeper`. */
function spread(B: number, V: number, seed: number, steeper = 1): RealOperand {
  const values = seeded(B * V, seed).map((u) =>
    Math.fround(9 * steeper * u ** (2 * steeper) * Math.sign(u))
  );
  return real("f32", [B, V], values);
}

function optionCases(): OpCase[] {
  return OPTIONS.flatMap((chosen, i) => {
    const options = { ...PLAIN, ...chosen }, V = 101;
    const seen = ids(5 * V, 7, i).map((count) => Math.max(0, count - 4));
    const name = `sampleToken() ${JSON.stringify(chosen)}`;
    return [
      sampleCase(name, options, spread(5, V, 3 * i + 1), null, 3 * i + 1),
      sampleCase(`${name} with counts`, options, spread(5, V, 3 * i + 2), seen, 3 * i + 2),
    ];
  });
}

/** Only five different logits: what is cut off between equals must be the higher ids. */
function tieCases(): OpCase[] {
  const values = ids(4 * 90, 5, 11), logits = real("f32", [4, 90], Float64Array.from(values));
  const named: readonly Partial<SamplingOptions>[] = [
    { temperature: 0 },
    { topK: 5 },
    { topK: 30 },
    { topP: 0.31 },
    { topK: 11, topP: 0.57 },
  ];
  return named.map((chosen, i) =>
    sampleCase(
      `sampleToken() ${JSON.stringify(chosen)} among equals`,
      { ...PLAIN, ...chosen },
      logits,
      null,
      40 + i,
    )
  );
}

/** More tokens than a device sorts at once: many equals, a long top-k, a wide nucleus. */
function manyCases(): OpCase[] {
  const equals = real("f32", [2, 3000], Float64Array.from(ids(6000, 5, 12)));
  const wide = spread(2, 3000, 13), steep = spread(2, 32_000, 14, 5);
  const cases = (logits: RealOperand, chosen: readonly Partial<SamplingOptions>[], seed: number) =>
    chosen.map((one, i) =>
      sampleCase(
        `sampleToken() ${JSON.stringify(one)} of ${logits.shape[1]} tokens`,
        { ...PLAIN, ...one },
        logits,
        null,
        seed + i,
      )
    );
  return [
    ...cases(equals, [{ topK: 40 }, { topK: 1100, topP: 0.9 }, { topP: 0.4 }], 60),
    ...cases(wide, [{ topP: 0.95 }, { topK: 700 }, { topK: 600, topP: 0.9, minP: 1e-3 }], 63),
    ...cases(steep, [{ topK: 50, topP: 0.9 }, { topK: 300 }], 66),
  ];
}

/** Signed zeros are equal: the lower id wins. */
function zeroCase(): OpCase {
  const logits = real("f32", [2, 4], Float64Array.of(-1, -0, 0, -2, -1, 0, -0, -2));
  return sampleCase("sampleToken() of signed zeros", { ...PLAIN, temperature: 0 }, logits, null, 1);
}

/** With 4096 equal logits the token is the upper 12 bits of the random word. */
function philoxCase(): OpCase {
  const B = 64, V = 4096;
  const rng = ids(3 * B, 2 ** 31, 5).map((word, i) => i % 2 === 0 ? word : ~word);
  const positions = ids(B, 2 ** 31, 6);
  rng.set([0, 0, 0, -1, -1, -1]);
  positions.set([0, -1]);
  const words = new Uint32Array(4);
  const tokens = positions.map((position, b) => {
    philox(words, rng[3 * b], rng[3 * b + 1], position, rng[3 * b + 2]);
    return words[0] >>> 20;
  });
  assert.equal(tokens[0], 0x662);
  return opCase(
    "sampleToken() draws Philox4x32-10",
    {
      tokens: output("i32", [B]),
      positions: integers([B], positions),
      logProbs: output("f32", [B]),
      logits: { ...real("f32", [B, V], new Float64Array(B * V)), isScratch: true },
      rng: integers([B, 3], rng),
    },
    (ops, t) => ops.sampleToken(t.tokens, t.positions, t.logProbs, t.logits, null, t.rng, PLAIN),
    {
      tokens: { values: tokens },
      positions: { values: positions.map((position) => position + 1 | 0) },
      logProbs: { values: new Float64Array(B).fill(-Math.log(V)) },
    },
  );
}

conformance("sampling", () => [
  ...optionCases(),
  ...tieCases(),
  ...manyCases(),
  zeroCase(),
  philoxCase(),
  sampleCase("sampleToken() of one token", PLAIN, spread(1, 1, 1), null, 1),
  sampleCase("sampleToken() of 32000 tokens", PLAIN, spread(3, 32000, 2, 5), null, 2),
  sampleCase("… and top-p", { ...PLAIN, topP: 0.6 }, spread(3, 32000, 2, 5), null, 2),
  sampleCase("sampleToken() of 300000 tokens", PLAIN, spread(2, 300_000, 3, 6), null, 3),
]);
