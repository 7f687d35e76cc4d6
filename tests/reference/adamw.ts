// AdamW with decoupled weight decay in float64, naive. Formulas: lib/core/ops.ts.

import type { AdamwOptions } from "../../lib/core/ops.ts";

/** One parameter tensor and its moments, all of one length. */
export interface AdamwState {
  readonly param: Float64Array;
  readonly m: Float64Array;
  readonly v: Float64Array;
}

/** The state after step `t` (from 1) at rate `lr` with gradients `grad` times `clip`. */
export function adamwUpdate(
  state: AdamwState,
  grad: Float64Array,
  clip: number,
  lr: number,
  t: number,
  { beta1, beta2, epsilon, weightDecay }: AdamwOptions,
): AdamwState {
  if (clip === 0) return state;
  const g = grad.map((value) => value * clip);
  const m = state.m.map((value, i) => beta1 * value + (1 - beta1) * g[i]);
  const v = state.v.map((value, i) => beta2 * value + (1 - beta2) * g[i] ** 2);
  const param = state.param.map((value, i) => {
    const mean = m[i] / (1 - beta1 ** t), variance = v[i] / (1 - beta2 ** t);
    return value * (1 - lr * weightDecay) - lr * mean / (Math.sqrt(variance) + epsilon);
  });
  return { param, m, v };
}
