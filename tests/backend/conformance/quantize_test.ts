// Element types, bit for bit: every conversion, rounding of ties, subnormal, infinite and missing numbers, block types.

import { conformance } from "./conformance.ts";
import { type OpCase, opCase, output, random, real, type RealOperand } from "./op_case.ts";

const FLOATS = ["f32", "bf16", "f16"] as const;
const BLOCKS = ["q8_0", "q4_0"] as const;

// Ties of bf16 and f16, the largest f16 and what rounds beyond it, subnormal f16 and f32, both zeros, infinities, NaN.
const SPECIAL = Float64Array.of(
  ...[1 + 2 ** -8, 1 + 3 * 2 ** -8, -1 - 2 ** -8, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -9],
  ...[65504, 65519, 65520, -65520, 1e38, 3.3e38, 3.4e38, -3.4e38],
  ...[2 ** -14, 2 ** -15, 2 ** -24, 3 * 2 ** -25, 2 ** -25, 2 ** -26, -(2 ** -24), 6e-8, 1e-40],
  ...[0, -0, Infinity, -Infinity, NaN, 2 ** -126, 2 ** -133, 2 ** -134, 2 ** -135, 3 * 2 ** -135],
);

function castCase(name: string, dst: typeof FLOATS[number], src: RealOperand): OpCase {
  return opCase(
    `cast() ${src.dtype} to ${dst}: ${name}`,
    { dst: output(dst, src.shape), src },
    (ops, t) => ops.cast(t.dst, t.src),
    { dst: { values: src.values, tolerance: 0 } },
  );
}

function castCases(dst: typeof FLOATS[number]): OpCase[] {
  return [
    ...FLOATS.flatMap((src) => [
      castCase("odd count", dst, random(src, [7, 37], 1)),
      castCase("many", dst, random(src, [40_001], 2)),
      castCase("special numbers", dst, real(src, [SPECIAL.length], SPECIAL.map(Math.fround))),
    ]),
    ...BLOCKS.map((src) => castCase("blocks", dst, random(src, [33, 96], 3))),
  ];
}

function quantizeCase(
  dst: typeof BLOCKS[number],
  name: string,
  src: RealOperand,
): OpCase {
  return opCase(
    `quantize() ${src.dtype} to ${dst}: ${name}`,
    { dst: output(dst, src.shape), src },
    (ops, t) => ops.quantize(t.dst, t.src),
    { dst: { values: src.values, tolerance: 0 } },
  );
}

// Halves of a step in both directions, the largest magnitude on both signs, a block of zeros.
const HALVES = Float64Array.from({ length: 32 }, (_, i) => (i - 16) * 0.5);
const BOTH_SIGNS = Float64Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? 1 : -1) * (i % 9));
const EDGES = Float64Array.of(
  ...HALVES.map((x) => x === -8 ? 127 : x),
  ...HALVES,
  ...BOTH_SIGNS,
  ...BOTH_SIGNS.map((x) => -x),
  ...new Float64Array(32),
);

conformance("quantize", () => [
  ...FLOATS.flatMap(castCases),
  ...BLOCKS.flatMap((dst) => [
    ...FLOATS.map((src) => quantizeCase(dst, "rows", random(src, [5, 96], 4))),
    quantizeCase(dst, "many", random("f32", [130, 320], 5)),
    quantizeCase(dst, "edges", real("f32", [1, EDGES.length], EDGES)),
  ]),
]);
