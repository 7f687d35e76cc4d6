// The output layer: logits for generating, and for training the loss with its gradient in row chunks, so that the
// logits of a whole batch never exist.

import type { Backend } from "../core/backend.ts";
import { elementCount, reshape, rows, type Tensor } from "../core/tensor.ts";
import type { TrainingPlan } from "./activations.ts";
import type { Model } from "./forward.ts";
import type { GradientStore } from "./weights.ts";

/** logits (M, V) = hidden · lmHeadᵀ for M rows of hidden (M, C). */
export function headLogits(model: Model, logits: Tensor, hidden: Tensor): void {
  model.backend.linearForward(logits, hidden, model.weights.root.lmHead, null);
}

/** Where logits are computed and where they are drawn from: one tensor where the compute dtype is f32. */
export interface LogitsBuffers {
  readonly logits: Tensor; //  (M, V) f32
  readonly product: Tensor; // (M, V) of the compute dtype
}

/** Allocates logits of M rows. */
export function allocateLogits(
  backend: Backend,
  M: number,
  V: number,
): LogitsBuffers & Disposable {
  const { compute } = backend.precision, shape = [M, V];
  if (compute === "f32") {
    const arena = backend.allocate("logits", { logits: { dtype: "f32", shape } });
    const { logits } = arena.tensors;
    return { logits, product: logits, [Symbol.dispose]: () => arena[Symbol.dispose]() };
  }
  const arena = backend.allocate("logits", {
    logits: { dtype: "f32", shape },
    product: { dtype: compute, shape },
  });
  return { ...arena.tensors, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

/** Rows `start` (included) to `end` (excluded) of both. */
export function logitsOfRows(
  { logits, product }: LogitsBuffers,
  start: number,
  end: number,
): LogitsBuffers {
  return { logits: rows(logits, start, end), product: rows(product, start, end) };
}

/** As {@linkcode headLogits}, in f32 whatever the device computes in. */
export function headLogitsInF32(
  model: Model,
  { logits, product }: LogitsBuffers,
  hidden: Tensor,
): void {
  headLogits(model, product, hidden);
  if (product.dtype !== logits.dtype) model.backend.cast(logits, product);
}

/** A (N, C) view of a (B, T, C) tensor. */
function flatRows(tensor: Tensor, width: number): Tensor {
  return reshape(tensor, [elementCount(tensor.shape) / width, width]);
}

/** Enqueues losses (N) f32 = the cross-entropy of each position of `plan.hidden` against `plan.targets`. */
export function headLoss(model: Model, plan: TrainingPlan, losses: Tensor): void {
  const { config, backend: ops } = model;
  const hidden = flatRows(plan.hidden, config.hiddenSize);
  const targets = flatRows(plan.targets, 1);
  for (const [start, end] of chunks(hidden.shape[0], plan.logits.shape[0])) {
    const logits = rows(plan.logits, 0, end - start);
    headLogits(model, logits, rows(hidden, start, end));
    ops.crossEntropyForward(rows(losses, start, end), logits, rows(targets, start, end));
  }
}

/**
 * Enqueues losses (N) f32 and the head's share of the backward pass: the gradient of scale · Σ losses is written to
 * `dHidden` (B, T, C) and added to the head's weight gradient.
 */
export function headLossBackward(
  model: Model,
  plan: TrainingPlan,
  losses: Tensor,
  scale: number,
  dHidden: Tensor,
  grads: GradientStore,
): void {
  const { config, backend: ops, weights } = model;
  const hidden = flatRows(plan.hidden, config.hiddenSize);
  const dRows = flatRows(dHidden, config.hiddenSize);
  const targets = flatRows(plan.targets, 1);
  for (const [start, end] of chunks(hidden.shape[0], plan.logits.shape[0])) {
    const logits = rows(plan.logits, 0, end - start);
    const x = rows(hidden, start, end);
    headLogits(model, logits, x);
    ops.crossEntropyForwardBackward(
      rows(losses, start, end),
      logits,
      rows(targets, start, end),
      scale,
    );
    ops.linearBackwardWeight(grads.root.lmHead, logits, x);
    ops.linearBackwardInput(rows(dRows, start, end), logits, weights.root.lmHead);
  }
}

function* chunks(total: number, size: number): Generator<readonly [number, number]> {
  for (let start = 0; start < total; start += size) {
    yield [start, Math.min(start + size, total)];
  }
}
