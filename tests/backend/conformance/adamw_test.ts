// AdamW: first and later steps, clipping, and the steps that must change nothing.

import type { Precision } from "../../../lib/core/backend.ts";
import { adamwUpdate } from "../../reference/adamw.ts";
import { roundTo } from "../../reference/quantize.ts";
import { conformance } from "./conformance.ts";
import { type OpCase, opCase, random, real } from "./op_case.ts";

const OPTIONS = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

function updateCase(p: Precision, count: number, step: number, clip: number): OpCase {
  const lr = Math.fround(4e-4), factor = Math.fround(clip);
  const master = random(p.master ?? p.param, [count], 1);
  const param = real(p.param, [count], master.values);
  const isFirst = step === 1;
  const grad = random(p.grad, [count], 2), start = random("f32", [count], 3);
  const m = real("f32", [count], start.values.map((value) => isFirst ? 0 : value));
  const v = real(
    "f32",
    [count],
    start.values.map((value) => isFirst ? 0 : (value * 0.5) ** 2 + 0.01),
  );
  const state = { param: master.values, m: m.values, v: v.values };
  const after = adamwUpdate(state, grad.values, factor, lr, step, OPTIONS);
  const tolerance = clip === 0 ? 0 : undefined;
  const tensors = {
    param,
    grad,
    m,
    v,
    clip: real("f32", [2], Float64Array.of(factor, 3)),
    schedule: real("f32", [2], Float64Array.of(lr, step)),
  };
  const expected = {
    param: { values: roundTo(after.param, p.param), tolerance },
    m: { values: after.m, tolerance },
    v: { values: after.v, tolerance },
  };
  const name = `adamwUpdate() of ${count} at step ${step}${clip === 1 ? "" : `, clip ${clip}`}`;
  if (p.master === null) {
    return opCase(
      name,
      tensors,
      (ops, t) => ops.adamwUpdate(t.param, null, t.grad, t.m, t.v, t.clip, t.schedule, OPTIONS),
      expected,
    );
  }
  return opCase(
    name,
    { ...tensors, master },
    (ops, t) => ops.adamwUpdate(t.param, t.master, t.grad, t.m, t.v, t.clip, t.schedule, OPTIONS),
    { ...expected, master: { values: after.param, tolerance } },
  );
}

conformance("adamw", (precision) => [
  updateCase(precision, 1, 1, 1),
  updateCase(precision, 37, 1, 1),
  updateCase(precision, 4099, 2, 0.3),
  updateCase(precision, 70_001, 1000, 1),
  updateCase(precision, 37, 5, 0),
]);
