// SwiGLU and its gradient: odd widths, saturated gates, the gradient written over its input.

import type { Precision } from "../../../lib/core/backend.ts";
import { swigluBackward, swigluForward } from "../../reference/swiglu.ts";
import { conformance } from "./conformance.ts";
import { type OpCase, opCase, output, random, real } from "./op_case.ts";

const SHAPES = [[1, 1, 1, 4], [2, 3, 33, 4], [1, 1, 5632, 4], [1, 130, 48, 4], [1, 9, 20, 100]];

function cases({ compute }: Precision, shape: readonly number[]): OpCase[] {
  const [B, T, F, magnitude] = shape, at = `[${B}, ${T}, ${F}] gates up to ±${magnitude}`;
  const unit = random(compute, [B, T, 2 * F], 1);
  const gateUp = real(compute, unit.shape, unit.values.map((value) => value * magnitude));
  const dOut = random(compute, [B, T, F], 2);
  const dGateUp = { values: swigluBackward(dOut.values, gateUp.values, F) };
  return [
    opCase(
      `swigluForward() of ${at}`,
      { out: output(compute, [B, T, F]), gateUp },
      (ops, t) => ops.swigluForward(t.out, t.gateUp),
      { out: { values: swigluForward(gateUp.values, F) } },
    ),
    opCase(
      `swigluBackward() of ${at}`,
      { dGateUp: output(compute, [B, T, 2 * F]), dOut, gateUp },
      (ops, t) => ops.swigluBackward(t.dGateUp, t.dOut, t.gateUp),
      { dGateUp },
    ),
    opCase(
      `swigluBackward() of ${at} over gateUp`,
      { gateUp, dOut },
      (ops, t) => ops.swigluBackward(t.gateUp, t.dOut, t.gateUp),
      { gateUp: dGateUp },
    ),
  ];
}

conformance("swiglu", (precision) => SHAPES.flatMap((shape) => cases(precision, shape)));
