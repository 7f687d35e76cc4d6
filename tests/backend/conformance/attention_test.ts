// Attention within sequences and against the cache: grouped queries, odd lengths, several tiles, large scores.

import type { Precision } from "../../../lib/core/backend.ts";
import {
  attentionBackward,
  attentionCached,
  attentionForward,
  type AttentionShape,
} from "../../reference/attention.ts";
import { roundTo } from "../../reference/quantize.ts";
import { conformance } from "./conformance.ts";
import { integers, type OpCase, opCase, output, random, real } from "./op_case.ts";

const SHAPES: readonly AttentionShape[] = [
  { B: 1, T: 1, H: 1, K: 1, D: 2 },
  { B: 2, T: 7, H: 4, K: 2, D: 8 },
  { B: 1, T: 33, H: 3, K: 1, D: 12 },
  { B: 2, T: 65, H: 8, K: 2, D: 16 },
  { B: 1, T: 40, H: 4, K: 4, D: 10 },
  { B: 1, T: 300, H: 2, K: 1, D: 64 },
  { B: 1, T: 140, H: 6, K: 1, D: 64 },
  { B: 2, T: 70, H: 6, K: 2, D: 64 },
  { B: 2, T: 70, H: 4, K: 2, D: 128 },
  { B: 1, T: 150, H: 2, K: 1, D: 128 },
];

function describe({ B, T, H, K, D }: AttentionShape): string {
  return `[${B}, ${T}, ${H} + 2 · ${K}, ${D}]`;
}

/**
 * Forward and backward. With `largest`, queries and keys are whole numbers up to it: scores far beyond what exp can
 * take, and yet exact in f32, so that the usual tolerance holds.
 */
function cases({ compute }: Precision, shape: AttentionShape, largest: number | null): OpCase[] {
  const { B, T, H, K, D } = shape;
  const unit = random(compute, [B, T, H + 2 * K, D], 1);
  const whole = unit.values.map((value, i) =>
    Math.floor(i / D) % (H + 2 * K) < H + K ? Math.round(value * (largest ?? 1)) : value
  );
  const qkv = largest === null ? unit : real(compute, unit.shape, whole);
  const dOut = random(compute, [B, T, H, D], 2);
  const forward = attentionForward(qkv.values, shape);
  const out = real(compute, [B, T, H, D], roundTo(forward.out, compute));
  const lse = real("f32", [B, H, T], roundTo(forward.lse, "f32"));
  const saved = { out: out.values, lse: lse.values };
  const name = `${describe(shape)}${largest === null ? "" : ` of whole numbers up to ${largest}`}`;
  return [
    opCase(
      `attentionForward() of ${name}`,
      { out: output(compute, out.shape), lse: output("f32", lse.shape), qkv },
      (ops, t) => ops.attentionForward(t.out, t.lse, t.qkv),
      { out: { values: forward.out }, lse: { values: forward.lse } },
    ),
    opCase(
      `attentionForward() of ${name} without lse`,
      { out: output(compute, out.shape), qkv },
      (ops, t) => ops.attentionForward(t.out, null, t.qkv),
      { out: { values: forward.out } },
    ),
    opCase(
      `attentionBackward() of ${name}`,
      { dQkv: output(compute, qkv.shape), dOut, qkv, out, lse },
      (ops, t) => ops.attentionBackward(t.dQkv, t.dOut, t.qkv, t.out, t.lse),
      { dQkv: { values: attentionBackward(dOut.values, qkv.values, saved, shape) } },
    ),
  ];
}

/** Slots after the last position hold large numbers: reading one would show. */
function cachedCase(
  { compute }: Precision,
  shape: AttentionShape,
  S: number,
  where: Int32Array,
): OpCase {
  const { B, T, H, K, D } = shape;
  const qkv = random(compute, [B, T, H + 2 * K, D], 1);
  const cache = (seed: number) => {
    const filled = random(compute, [B, K, S, D], seed);
    const values = filled.values.map((value, i) => {
      const b = Math.floor(i / (K * S * D)), slot = Math.floor(i / D) % S;
      return slot > Math.max(...where.subarray(b * T, (b + 1) * T)) ? 8192 : value;
    });
    return real(compute, [B, K, S, D], values);
  };
  const keys = cache(2), values = cache(3);
  const out = attentionCached(qkv.values, keys.values, values.values, where, shape);
  return opCase(
    `attentionCached() of ${describe(shape)} at positions up to ${Math.max(...where)} of ${S}`,
    { out: output(compute, [B, T, H, D]), qkv, keys, values, positions: integers([B, T], where) },
    (ops, t) => ops.attentionCached(t.out, t.qkv, t.keys, t.values, t.positions),
    { out: { values: out } },
  );
}

/** Positions of T consecutive tokens in each sequence, from these first ones on. */
function from(T: number, ...first: number[]): Int32Array {
  return Int32Array.from(first.flatMap((start) => Array.from({ length: T }, (_, t) => start + t)));
}

conformance("attention", (precision) => [
  ...SHAPES.flatMap((shape) => cases(precision, shape, null)),
  ...cases(precision, { B: 1, T: 37, H: 4, K: 2, D: 16 }, 24),
  ...cases(precision, { B: 1, T: 150, H: 2, K: 1, D: 64 }, 24),
  ...cases(precision, { B: 1, T: 300, H: 2, K: 1, D: 64 }, 5),
  cachedCase(precision, { B: 1, T: 1, H: 1, K: 1, D: 2 }, 1, from(1, 0)),
  cachedCase(precision, { B: 3, T: 1, H: 8, K: 2, D: 16 }, 70, from(1, 69, 0, 33)),
  cachedCase(precision, { B: 2, T: 5, H: 3, K: 1, D: 12 }, 50, from(5, 0, 40)),
  cachedCase(precision, { B: 1, T: 1, H: 4, K: 4, D: 64 }, 700, from(1, 650)),
  cachedCase(precision, { B: 1, T: 37, H: 4, K: 2, D: 10 }, 300, from(37, 201)),
  cachedCase(precision, { B: 2, T: 70, H: 4, K: 2, D: 64 }, 170, from(70, 0, 95)),
  cachedCase(precision, { B: 1, T: 20, H: 2, K: 1, D: 128 }, 140, from(20, 101)),
  cachedCase(precision, { B: 2, T: 140, H: 2, K: 1, D: 64 }, 500, from(140, 300, 7)),
  cachedCase(precision, { B: 4, T: 1, H: 8, K: 8, D: 8 }, 2500, from(1, 2400, 0, 300, 1999)),
]);
