// The model: embedding, L blocks, final norm, as a list of operations. backward.ts is the same list read upwards.
// One text for training, prefill and decoding; the only branch is `if (cache)`.

import type { Backend } from "../core/backend.ts";
import type { Tensor } from "../core/tensor.ts";
import type { Activations, BlockActivations } from "./activations.ts";
import type { ModelConfig } from "./config.ts";
import type { KvCache } from "./kv_cache.ts";
import type { BlockWeights, WeightStore } from "./weights.ts";

/** What every pass needs: the architecture, the device, and who lends the weights. */
export interface Model {
  readonly config: ModelConfig;
  readonly backend: Backend;
  readonly weights: WeightStore;
}

/**
 * Enqueues the forward pass of tokens (B, T) i32 up to `acts.hidden`; head.ts continues from there. With a cache, keys
 * and values are appended at `acts.positions` and attention sees the whole cache; without one, it sees these T tokens.
 */
export function forward(
  model: Model,
  tokens: Tensor,
  acts: Activations,
  cache: KvCache | null,
): void {
  const { config, backend: ops, weights } = model;
  weights.prefetch(0);
  ops.embeddingForward(acts.blocks[0].input, tokens, weights.root.embed);
  for (let layer = 0; layer < config.numLayers; layer++) {
    weights.prefetch(layer + 1);
    const w = weights.acquire(layer);
    const a = acts.blocks[layer];
    blockInner(model, layer, w, a, acts, cache);
    ops.linearForward(a.output, a.swiglu, w.wDown, a.residual);
    weights.release(layer);
  }
  const { output } = acts.blocks[config.numLayers - 1];
  ops.rmsnormForward(
    acts.hidden,
    acts.hiddenRstd,
    output,
    weights.root.finalNorm,
    config.rmsNormEps,
  );
}

/** A block up to its last projection: all that the backward pass of the block reads. */
export function blockInner(
  model: Model,
  layer: number,
  w: BlockWeights,
  a: BlockActivations,
  acts: Activations,
  cache: KvCache | null,
): void {
  const { config, backend: ops } = model;
  ops.rmsnormForward(a.attnIn, a.attnInRstd, a.input, w.attnNorm, config.rmsNormEps);
  ops.linearForward(a.qkv, a.attnIn, w.wqkv, null);
  ops.ropeForward(a.qkv, acts.ropeTable, acts.positions, config.numHeads, config.numKvHeads);
  if (cache) {
    ops.kvCacheAppend(cache.keys[layer], cache.values[layer], a.qkv, acts.positions);
    ops.attentionCached(
      a.attnOut,
      a.qkv,
      cache.keys[layer],
      cache.values[layer],
      acts.positions,
    );
  } else {
    ops.attentionForward(a.attnOut, a.attnLse, a.qkv);
  }
  ops.linearForward(a.residual, a.attnOut, w.wo, a.input);
  ops.rmsnormForward(a.mlpIn, a.mlpInRstd, a.residual, w.mlpNorm, config.rmsNormEps);
  ops.linearForward(a.gateUp, a.mlpIn, w.wGateUp, null);
  ops.swigluForward(a.swiglu, a.gateUp);
}
