// Operations at the sizes of TinyLlama 1.1B, where blocking, packing and long sums differ from the small cases.

import type { Precision } from "../../lib/core/backend.ts";
import type { DType } from "../../lib/core/dtype.ts";
import { conformance } from "../backend/conformance/conformance.ts";
import {
  ids,
  integers,
  type OpCase,
  opCase,
  output,
  random,
  real,
} from "../backend/conformance/op_case.ts";
import { TOLERANCE_8_BIT } from "../backend/tolerances.ts";
import { attentionBackward, attentionForward } from "../reference/attention.ts";
import { crossEntropyBackward, crossEntropyForward } from "../reference/cross_entropy.ts";
import { linearBackwardWeight, linearForward } from "../reference/linear.ts";
import { roundTo } from "../reference/quantize.ts";
import { rmsnormBackward, rmsnormForward } from "../reference/rmsnorm.ts";

const C = 2048, F = 5632, V = 32000;

function projection({ compute, matmul }: Precision, dtype: DType, N: number): OpCase {
  const x = random(compute, [N, C], 1), weight = random(dtype, [F, C], 2);
  const isQuantized = dtype === "q8_0" || dtype === "q4_0";
  const rounded = (values: Float64Array) => matmul === "f32" ? values : roundTo(values, matmul);
  const values = linearForward(rounded(x.values), rounded(weight.values), C, null);
  const tolerance = matmul !== "f32" && isQuantized ? TOLERANCE_8_BIT : undefined;
  return opCase(
    `linearForward() of ${N} rows, ${dtype} [${F}, ${C}]`,
    { out: output(compute, [N, F]), x, weight },
    (ops, t) => ops.linearForward(t.out, t.x, t.weight, null),
    { out: { values, tolerance } },
  );
}

function weightGradient({ compute, grad, matmul }: Precision): OpCase {
  const N = 300, O = 320;
  const x = random(compute, [N, C], 1), dOut = random(compute, [N, O], 2);
  const dWeight = random(grad, [O, C], 3);
  const rounded = (values: Float64Array) => matmul === "f32" ? values : roundTo(values, matmul);
  const added = linearBackwardWeight(rounded(dOut.values), rounded(x.values), C);
  return opCase(
    `linearBackwardWeight() of ${N} rows, [${O}, ${C}]`,
    { dWeight, dOut, x },
    (ops, t) => ops.linearBackwardWeight(t.dWeight, t.dOut, t.x),
    { dWeight: { values: dWeight.values.map((value, i) => value + added[i]) } },
  );
}

function attention({ compute }: Precision): OpCase[] {
  const shape = { B: 1, T: 1024, H: 2, K: 1, D: 64 };
  const qkv = random(compute, [1, 1024, 4, 64], 1), dOut = random(compute, [1, 1024, 2, 64], 2);
  const forward = attentionForward(qkv.values, shape);
  const out = real(compute, dOut.shape, roundTo(forward.out, compute));
  const lse = real("f32", [1, 2, 1024], roundTo(forward.lse, "f32"));
  const saved = { out: out.values, lse: lse.values };
  return [
    opCase(
      "attentionForward() of 1024 tokens",
      { out: output(compute, out.shape), lse: output("f32", lse.shape), qkv },
      (ops, t) => ops.attentionForward(t.out, t.lse, t.qkv),
      { out: { values: forward.out }, lse: { values: forward.lse } },
    ),
    opCase(
      "attentionBackward() of 1024 tokens",
      { dQkv: output(compute, qkv.shape), dOut, qkv, out, lse },
      (ops, t) => ops.attentionBackward(t.dQkv, t.dOut, t.qkv, t.out, t.lse),
      { dQkv: { values: attentionBackward(dOut.values, qkv.values, saved, shape) } },
    ),
  ];
}

function norm({ compute, param, grad }: Precision): OpCase {
  const N = 600;
  const x = random(compute, [N, C], 1), weight = random(param, [C], 2);
  const dOut = random(compute, [N, C], 3), dX = random(compute, [N, C], 4);
  const dWeight = random(grad, [C], 5);
  const { rstd } = rmsnormForward(x.values, weight.values, 1e-5);
  const kept = real("f32", [N], roundTo(rstd, "f32"));
  const added = rmsnormBackward(dOut.values, x.values, weight.values, kept.values);
  return opCase(
    `rmsnormBackward() of [${N}, ${C}]`,
    { dX, dWeight, dOut, x, weight, rstd: kept },
    (ops, t) => ops.rmsnormBackward(t.dX, t.dWeight, t.dOut, t.x, t.weight, t.rstd),
    {
      dX: { values: dX.values.map((value, i) => value + added.dX[i]) },
      dWeight: { values: dWeight.values.map((value, i) => value + added.dWeight[i]) },
    },
  );
}

function crossEntropy({ compute }: Precision): OpCase {
  const N = 70, logits = random(compute, [N, V], 1), targets = ids(N, V, 2);
  return opCase(
    `crossEntropyForwardBackward() of [${N}, ${V}]`,
    { losses: output("f32", [N]), logits, targets: integers([N], targets) },
    (ops, t) => ops.crossEntropyForwardBackward(t.losses, t.logits, t.targets, 1 / N),
    {
      losses: { values: crossEntropyForward(logits.values, targets) },
      logits: { values: crossEntropyBackward(logits.values, targets, 1 / N) },
    },
  );
}

conformance("sizes of TinyLlama", (precision) => [
  ...(["f32", "bf16", "f16", "q8_0", "q4_0"] as const).map((dtype) =>
    projection(precision, dtype, 1)
  ),
  projection(precision, precision.param, 70),
  projection(precision, "q4_0", 70),
  weightGradient(precision),
  norm(precision),
  crossEntropy(precision),
]);

conformance("attention of 1024 tokens", attention);
