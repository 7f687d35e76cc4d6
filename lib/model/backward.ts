// The gradient of forward.ts: its list of operations read upwards. `gradients.dResidual` is the running gradient of the
// residual stream: rmsnormBackward adds to it, so no separate addition exists.

import type { Tensor } from "../core/tensor.ts";
import type { BlockActivations, TrainingPlan } from "./activations.ts";
import { blockInner, type Model } from "./forward.ts";
import type { BlockWeights, GradientStore } from "./weights.ts";

/**
 * Enqueues the backward pass. `dHidden` (B, T, C) is the gradient at `plan.hidden`, as head.ts leaves it; weight
 * gradients are added to `grads`. Overwrites all of `plan.gradients` and the kept gateUp.
 */
export function backward(
  model: Model,
  tokens: Tensor,
  plan: TrainingPlan,
  dHidden: Tensor,
  grads: GradientStore,
): void {
  const { config, backend: ops, weights } = model;
  const { dResidual } = plan.gradients;
  const { output } = plan.blocks[config.numLayers - 1];
  const { hiddenRstd } = plan;
  weights.prefetch(config.numLayers - 1);
  ops.fill(dResidual, 0);
  ops.rmsnormBackward(
    dResidual,
    grads.root.finalNorm,
    dHidden,
    output,
    weights.root.finalNorm,
    saved(hiddenRstd),
  );
  for (let layer = config.numLayers - 1; layer >= 0; layer--) {
    weights.prefetch(layer - 1);
    const w = weights.acquire(layer);
    recomputeBlock(model, layer, w, plan);
    blockBackward(model, w, grads.acquire(layer), plan.blocks[layer], plan);
    weights.release(layer);
    grads.release(layer);
  }
  ops.embeddingBackward(grads.root.embed, dResidual, tokens);
}

function blockBackward(
  model: Model,
  w: BlockWeights,
  g: BlockWeights,
  a: BlockActivations,
  plan: TrainingPlan,
): void {
  const { config, backend: ops } = model;
  const { dResidual, dNormed, dAttnOut, dQkv, dSwiglu } = plan.gradients;
  const dGateUp = a.gateUp;

  ops.linearBackwardWeight(g.wDown, dResidual, a.swiglu);
  ops.linearBackwardInput(dSwiglu, dResidual, w.wDown);
  ops.swigluBackward(dGateUp, dSwiglu, a.gateUp);
  ops.linearBackwardWeight(g.wGateUp, dGateUp, a.mlpIn);
  ops.linearBackwardInput(dNormed, dGateUp, w.wGateUp);
  ops.rmsnormBackward(dResidual, g.mlpNorm, dNormed, a.residual, w.mlpNorm, saved(a.mlpInRstd));
  ops.linearBackwardWeight(g.wo, dResidual, a.attnOut);
  ops.linearBackwardInput(dAttnOut, dResidual, w.wo);
  ops.attentionBackward(dQkv, dAttnOut, a.qkv, a.attnOut, saved(a.attnLse));
  ops.ropeBackward(dQkv, plan.ropeTable, plan.positions, config.numHeads, config.numKvHeads);
  ops.linearBackwardWeight(g.wqkv, dQkv, a.attnIn);
  ops.linearBackwardInput(dNormed, dQkv, w.wqkv);
  ops.rmsnormBackward(dResidual, g.attnNorm, dNormed, a.input, w.attnNorm, saved(a.attnInRstd));
}

/** Computes again what the plan did not keep for this layer. */
function recomputeBlock(model: Model, layer: number, w: BlockWeights, plan: TrainingPlan): void {
  const { config, backend: ops } = model;
  const a = plan.blocks[layer];
  switch (plan.recompute) {
    case "none":
      return;
    case "cheap":
      ops.rmsnormForward(a.attnIn, a.attnInRstd, a.input, w.attnNorm, config.rmsNormEps);
      ops.rmsnormForward(a.mlpIn, a.mlpInRstd, a.residual, w.mlpNorm, config.rmsNormEps);
      ops.swigluForward(a.swiglu, a.gateUp);
      return;
    case "block":
      blockInner(model, layer, w, a, plan, null);
      return;
    default:
      plan.recompute satisfies never;
  }
}

/** A statistic the forward pass must have kept; only inference plans leave it out. */
function saved(statistic: Tensor | null): Tensor {
  if (statistic === null) throw new TypeError("Cannot run backward on an inference plan");
  return statistic;
}
