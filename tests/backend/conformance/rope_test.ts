// Rotary positions, in place: positions in any order, value heads left as they are, and the inverse.

import type { Precision } from "../../../lib/core/backend.ts";
import { ropeBackward, ropeForward } from "../../reference/rope.ts";
import { conformance } from "./conformance.ts";
import { ids, integers, type OpCase, opCase, random, real } from "./op_case.ts";

const SHAPES = [
  { B: 1, T: 1, H: 1, K: 1, D: 2 },
  { B: 2, T: 5, H: 4, K: 2, D: 6 },
  { B: 1, T: 33, H: 8, K: 2, D: 12 },
  { B: 1, T: 130, H: 6, K: 1, D: 64 },
] as const;
const S = 200;

/** Cosines and sines (S, D) of positions 0 … S−1 as the model has them. */
function table(D: number) {
  const values = Float64Array.from({ length: S * D }, (_, i) => {
    const position = Math.floor(i / D), j = i % D % (D / 2);
    const angle = position * 10000 ** (-2 * j / D);
    return Math.fround(i % D < D / 2 ? Math.cos(angle) : Math.sin(angle));
  });
  return real("f32", [S, D], values);
}

function cases({ compute }: Precision, shape: typeof SHAPES[number]): OpCase[] {
  const { B, T, H, K, D } = shape;
  const qkv = random(compute, [B, T, H + 2 * K, D], 1), angles = table(D);
  const where = ids(B * T, S, 2), positions = integers([B, T], where);
  const at = `[${B}, ${T}, ${H} + 2 · ${K}, ${D}]`;
  return [
    opCase(
      `ropeForward() of ${at}`,
      { qkv, table: angles, positions },
      (ops, t) => ops.ropeForward(t.qkv, t.table, t.positions, H, K),
      { qkv: { values: ropeForward(qkv.values, angles.values, where, shape) } },
    ),
    opCase(
      `ropeBackward() of ${at}`,
      { dQkv: qkv, table: angles, positions },
      (ops, t) => ops.ropeBackward(t.dQkv, t.table, t.positions, H, K),
      { dQkv: { values: ropeBackward(qkv.values, angles.values, where, shape) } },
    ),
  ];
}

conformance("rope", (precision) => SHAPES.flatMap((shape) => cases(precision, shape)));
