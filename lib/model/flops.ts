// How much work a token is: for utilisation figures and dry runs.

import { elementCount } from "../core/tensor.ts";
import { attentionWidth, type ModelConfig } from "./config.ts";
import { blockTable } from "./weights.ts";

/** Parameters that take part in a matrix product for each token: all but the embedding table and the norms. */
export function matmulParameters(config: ModelConfig): number {
  const matrices = blockTable(config, 0).filter((entry) => entry.shape.length === 2);
  const perBlock = matrices.reduce((sum, entry) => sum + elementCount(entry.shape), 0);
  return config.numLayers * perBlock + config.vocabSize * config.hiddenSize;
}

/**
 * FLOPs to train one token in a sequence of T: 6 per matmul parameter, and 6·L·T·H·D for causal attention, which looks
 * at half of the T positions on average. Recomputation does not count.
 */
export function trainingFlopsPerToken(config: ModelConfig, T: number): number {
  return 6 * matmulParameters(config) + 6 * config.numLayers * T * attentionWidth(config);
}
