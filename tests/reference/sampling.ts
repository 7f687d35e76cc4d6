// Drawing one token in float64, naive: by sorting the vocabulary. Formulas: lib/core/ops.ts.

import type { SamplingOptions } from "../../lib/core/ops.ts";
import { philox, unitFloat } from "../../lib/core/rng.ts";

/** A drawn token. */
export interface Draw {
  readonly token: number;
  /** Its log-probability under softmax of the untouched logits. */
  readonly logProb: number;
  /** How far, as a probability, the nearest threshold was: below 1e-6 another token would be right as well. */
  readonly margin: number;
}

/** Draws from logits (V) at `position`; `seen` (V) counts earlier tokens, rng (3) is key and stream. */
export function sampleToken(
  logits: Float64Array,
  seen: Int32Array | null,
  rng: Int32Array,
  position: number,
  options: SamplingOptions,
): Draw {
  const { temperature, topK, topP, minP, repetitionPenalty } = options;
  const scores = logits.map((logit, id) => {
    if (seen === null || seen[id] === 0) return logit;
    return logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  });
  const logProb = (token: number) => Math.log(softmax(logits)[token]);
  const ranking = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  if (temperature === 0) return { token: ranking[0], logProb: logProb(ranking[0]), margin: 1 };

  const margins = [1];
  let kept = topK > 0 ? ranking.slice(0, topK) : ranking;
  const probabilities = softmax(Float64Array.from(kept, (id) => scores[id] / temperature));
  if (topP < 1) {
    let reached = 0;
    const size = probabilities.findIndex((probability) => {
      margins.push(Math.abs(reached + probability - topP));
      return (reached += probability) >= topP;
    }) + 1;
    kept = size > 0 ? kept.slice(0, size) : kept;
  }
  kept = kept.filter((_, rank) => {
    if (minP > 0 && rank > 0) margins.push(Math.abs(probabilities[rank] - minP * probabilities[0]));
    return probabilities[rank] >= minP * probabilities[0];
  });

  const words = new Uint32Array(4);
  philox(words, rng[0], rng[1], position, rng[2]);
  const uniform = unitFloat(words[0]);
  const byId = kept.toSorted((a, b) => a - b);
  let passed = 0, token = -1;
  softmax(Float64Array.from(byId, (id) => scores[id] / temperature)).forEach((probability, i) => {
    passed += probability;
    if (i + 1 < byId.length) margins.push(Math.abs(passed - uniform));
    if (token < 0 && (passed > uniform || i + 1 === byId.length)) token = byId[i];
  });
  return { token, logProb: logProb(token), margin: margins.reduce((a, b) => Math.min(a, b)) };
}

function softmax(x: Float64Array): Float64Array {
  const peak = x.reduce((a, b) => Math.max(a, b));
  const weights = x.map((value) => Math.exp(value - peak));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}
