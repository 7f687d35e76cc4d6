// AdamW: first and later steps, clipping, and the steps that must change nothing.

import type { Precision } from "../../../lib/core/backend.ts";
import type { AdamwOptions } from "../../../lib/core/ops.ts";
import { elementCount } from "../../../lib/core/tensor.ts";
import { adamwUpdate } from "../../reference/adamw.ts";
import { roundTo } from "../../reference/quantize.ts";
import { conformance } from "./conformance.ts";
import { type OpCase, opCase, random, real, type RealOperand } from "./op_case.ts";

const OPTIONS = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

function updateCase(p: Precision, count: number, step: number, clip: number): OpCase {
  const master = random(p.master ?? p.param, [count], 1);
  const isFirst = step === 1;
  const grad = random(p.grad, [count], 2), start = random("f32", [count], 3);
  const m = real("f32", [count], start.values.map((value) => isFirst ? 0 : value));
  const v = real(
    "f32",
    [count],
    start.values.map((value) => isFirst ? 0 : (value * 0.5) ** 2 + 0.01),
  );
  const name = `adamwUpdate() of ${count} at step ${step}${clip === 1 ? "" : `, clip ${clip}`}`;
  return adamwCase(name, p, { master, grad, m, v }, { clip, step, ...OPTIONS });
}

/**
 * From a parameter of 0 and without decay the new value is the update itself, so the bias correction shows to the last
 * digits: the state is that after `step` - 1 gradients of the same kind.
 */
function correctionCase(p: Precision, step: number, beta2: number): OpCase {
  const options = { ...OPTIONS, beta2, weightDecay: 0 };
  const grad = real(p.grad, [64], random(p.grad, [64], 5).values.map((value) => value + 2));
  const share = (beta: number) => 1 - beta ** (step - 1);
  const state = {
    master: real(p.master ?? p.param, [64], new Float64Array(64)),
    grad,
    m: real("f32", [64], grad.values.map((value) => value * share(options.beta1))),
    v: real("f32", [64], grad.values.map((value) => value ** 2 * share(beta2))),
  };
  const name = `adamwUpdate() corrects for β2 = ${beta2} at step ${step}`;
  return adamwCase(name, p, state, { clip: 1, step, ...options }, 1e-6);
}

interface Before {
  readonly master: RealOperand;
  readonly grad: RealOperand;
  readonly m: RealOperand;
  readonly v: RealOperand;
}

/** `tolerance` is that of the parameter in f32. */
function adamwCase(
  name: string,
  p: Precision,
  { master, grad, m, v }: Before,
  { clip, step, ...options }: AdamwOptions & { readonly clip: number; readonly step: number },
  tolerance = clip === 0 ? 0 : undefined,
): OpCase {
  const count = elementCount(master.shape);
  const lr = Math.fround(4e-4), factor = Math.fround(clip);
  const param = real(p.param, [count], master.values);
  const state = { param: master.values, m: m.values, v: v.values };
  const after = adamwUpdate(state, grad.values, factor, lr, step, options);
  const tensors = {
    param,
    grad,
    m,
    v,
    clip: real("f32", [2], Float64Array.of(factor, 3)),
    schedule: real("f32", [2], Float64Array.of(lr, step)),
  };
  const expected = {
    param: {
      values: roundTo(after.param, p.param),
      tolerance: p.param === "f32" || clip === 0 ? tolerance : undefined,
    },
    m: { values: after.m, tolerance },
    v: { values: after.v, tolerance },
  };
  if (p.master === null) {
    return opCase(
      name,
      tensors,
      (ops, t) => ops.adamwUpdate(t.param, null, t.grad, t.m, t.v, t.clip, t.schedule, options),
      expected,
    );
  }
  return opCase(
    name,
    { ...tensors, master },
    (ops, t) => ops.adamwUpdate(t.param, t.master, t.grad, t.m, t.v, t.clip, t.schedule, options),
    { ...expected, master: { values: after.param, tolerance } },
  );
}

conformance("adamw", (precision) => [
  updateCase(precision, 1, 1, 1),
  updateCase(precision, 37, 1, 1),
  updateCase(precision, 4099, 2, 0.3),
  updateCase(precision, 70_001, 1000, 1),
  updateCase(precision, 37, 5, 0),
  // The last step of the paper's run is 1,430,512.
  ...[1, 2, 7, 100, 5000, 1_000_000, 1_430_512].map((step) =>
    correctionCase(precision, step, 0.95)
  ),
  ...[1_000_000, 1_430_512].map((step) => correctionCase(precision, step, 0.999)),
]);
