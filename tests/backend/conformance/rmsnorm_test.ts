// Root mean square normalization: single and many rows, odd widths, with and without the kept statistic.

import type { Precision } from "../../../lib/core/backend.ts";
import { rmsnormBackward, rmsnormForward } from "../../reference/rmsnorm.ts";
import { roundTo } from "../../reference/quantize.ts";
import { conformance } from "./conformance.ts";
import { type OpCase, opCase, output, random, real } from "./op_case.ts";

const SHAPES = [
  ...[[1, 1, 1], [1, 1, 2048], [2, 3, 33], [1, 500, 65], [1, 70, 64]] as const,
  // The last one's threads have several packs each; f32 packs of the one before end within a pack of bf16.
  ...[[2, 520, 1064], [1, 9, 300], [1, 5, 8200]] as const,
] as const;
const EPS = 1e-5;

function cases({ param, compute, grad }: Precision, B: number, T: number, C: number): OpCase[] {
  const shape = [B, T, C], at = `[${shape}]`;
  const x = random(compute, shape, 1), weight = random(param, [C], 2);
  const dOut = random(compute, shape, 3), dX = random(compute, shape, 4);
  const dWeight = random(grad, [C], 5);
  const forward = rmsnormForward(x.values, weight.values, EPS);
  const rstd = real("f32", [B * T], roundTo(forward.rstd, "f32"));
  const added = rmsnormBackward(dOut.values, x.values, weight.values, rstd.values);
  return [
    opCase(
      `rmsnormForward() of ${at}`,
      { out: output(compute, shape), rstd: output("f32", [B * T]), x, weight },
      (ops, t) => ops.rmsnormForward(t.out, t.rstd, t.x, t.weight, EPS),
      { out: { values: forward.out }, rstd: { values: forward.rstd } },
    ),
    opCase(
      `rmsnormForward() of ${at} without rstd`,
      { out: output(compute, shape), x, weight },
      (ops, t) => ops.rmsnormForward(t.out, null, t.x, t.weight, EPS),
      { out: { values: forward.out } },
    ),
    opCase(
      `rmsnormBackward() of ${at} accumulates into both gradients`,
      { dX, dWeight, dOut, x, weight, rstd },
      (ops, t) => ops.rmsnormBackward(t.dX, t.dWeight, t.dOut, t.x, t.weight, t.rstd),
      {
        dX: { values: dX.values.map((value, i) => value + added.dX[i]) },
        dWeight: { values: dWeight.values.map((value, i) => value + added.dWeight[i]) },
      },
    ),
  ];
}

function tinyRow({ param, compute }: Precision): OpCase {
  const x = random(compute, [1, 40], 1), weight = random(param, [40], 2);
  const tiny = real(compute, [1, 40], x.values.map((value) => value * 2 ** -12));
  return opCase(
    "rmsnormForward() of a row whose squares are below eps",
    { out: output(compute, [1, 40]), x: tiny, weight },
    (ops, t) => ops.rmsnormForward(t.out, null, t.x, t.weight, EPS),
    { out: { values: rmsnormForward(tiny.values, weight.values, EPS).out } },
  );
}

conformance("rmsnorm", (precision) => [
  ...SHAPES.flatMap(([B, T, C]) => cases(precision, B, T, C)),
  tinyRow(precision),
]);
