// Sums over whole tensors and the clipping factor, overflow and broken losses included.

import type { Precision } from "../../../lib/core/backend.ts";
import { clipScale, sum, sumOfSquares } from "../../reference/reduce.ts";
import { conformance } from "./conformance.ts";
import { type OpCase, opCase, output, random, real } from "./op_case.ts";

const COUNTS = [1, 7, 64, 1000, 100_003];

function sumCases({ grad }: Precision, count: number): OpCase[] {
  const x = random("f32", [count], 1), gradients = random(grad, [count], 2);
  // A quarter more than the mean, so that the sum does not vanish.
  const shifted = real("f32", [count], x.values.map((value) => Math.fround(value + 0.25)));
  return [
    opCase(
      `sum() of ${count}`,
      { out: output("f32", [1]), x: shifted },
      (ops, t) => ops.sum(t.out, t.x),
      { out: { values: Float64Array.of(sum(shifted.values)) } },
    ),
    opCase(
      `sumOfSquares() of ${count}`,
      { out: output("f32", [1]), x: gradients },
      (ops, t) => ops.sumOfSquares(t.out, t.x),
      { out: { values: Float64Array.of(sumOfSquares(gradients.values)) } },
    ),
  ];
}

function clipCase(name: string, squares: number[], loss: number, maxNorm: number): OpCase {
  const [factor, norm] = clipScale(Float64Array.from(squares), loss, maxNorm);
  const isBroken = !Number.isFinite(norm);
  return opCase(
    `clipScale() ${name}`,
    {
      out: output("f32", [2]),
      squares: real("f32", [squares.length], Float64Array.from(squares)),
      loss: real("f32", [1], Float64Array.of(loss)),
    },
    (ops, t) => ops.clipScale(t.out, t.squares, t.loss, maxNorm),
    { out: { values: Float64Array.of(factor, norm), tolerance: isBroken ? 0 : undefined } },
  );
}

conformance("reduce", (precision) => [
  ...COUNTS.flatMap((count) => sumCases(precision, count)),
  clipCase("clips", [3, 0, 13], 2.5, 1),
  clipCase("leaves a small gradient alone", [0.03, 0, 0.06], 2.5, 1),
  clipCase("never clips when maxNorm is 0", [300, 0, 1300], 2.5, 0),
  clipCase("of a gradient that is zero", [0, 0], 2.5, 1),
  clipCase("skips a loss that is not a number", [3, 1], NaN, 1),
  clipCase("skips an infinite loss", [3, 1], -Infinity, 0),
  clipCase("skips a gradient that overflowed", [3, Infinity], 2.5, 1),
]);
