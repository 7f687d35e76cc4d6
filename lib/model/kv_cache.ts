// Keys and values of past tokens, so that decoding reads them instead of computing them again.

import type { Memory, Precision } from "../core/backend.ts";
import { rows, type Tensor, type TensorSpec } from "../core/tensor.ts";
import type { ModelConfig } from "./config.ts";

/** One keys and one values tensor (B, K, S, D) per layer; slot s of sequence b holds the token at position s. */
export interface KvCache {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** S: positions 0 … S−1 fit. */
  readonly length: number;
}

/** Allocates a cache for B sequences of up to S tokens. */
export function allocateKvCache(
  backend: Memory & { readonly precision: Precision },
  config: ModelConfig,
  B: number,
  S: number,
): KvCache & Disposable {
  const spec: TensorSpec = {
    dtype: backend.precision.compute,
    shape: [B, config.numKvHeads, S, config.headDim],
  };
  const specs: Record<string, TensorSpec> = {};
  for (let layer = 0; layer < config.numLayers; layer++) {
    specs[`${layer}.keys`] = spec;
    specs[`${layer}.values`] = spec;
  }
  const arena = backend.allocate("kv cache", specs);
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer);
  return {
    keys: layers.map((layer) => arena.tensors[`${layer}.keys`]),
    values: layers.map((layer) => arena.tensors[`${layer}.values`]),
    length: S,
    [Symbol.dispose]: () => arena[Symbol.dispose](),
  };
}

/** The same memory seen as the cache of sequences `start` (included) to `end` (excluded) alone. */
export function cacheOfSequences(cache: KvCache, start: number, end: number): KvCache {
  return {
    keys: cache.keys.map((tensor) => rows(tensor, start, end)),
    values: cache.values.map((tensor) => rows(tensor, start, end)),
    length: cache.length,
  };
}
