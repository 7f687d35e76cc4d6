// Cross-entropy of logits against token ids in float64, naive. Formulas: lib/core/ops.ts.

/** losses (N) of logits (N, V) against targets (N); 0 where a target is negative. */
export function crossEntropyForward(logits: Float64Array, targets: Int32Array): Float64Array {
  const V = logits.length / targets.length;
  return Float64Array.from(targets, (target, n) => {
    const row = logits.subarray(n * V, (n + 1) * V);
    return target < 0 ? 0 : logSumExp(row) - row[target];
  });
}

/** The gradient (N, V) of scale · Σ losses. */
export function crossEntropyBackward(
  logits: Float64Array,
  targets: Int32Array,
  scale: number,
): Float64Array {
  const V = logits.length / targets.length;
  const dLogits = new Float64Array(logits.length);
  targets.forEach((target, n) => {
    if (target < 0) return;
    const row = logits.subarray(n * V, (n + 1) * V);
    const total = logSumExp(row);
    row.forEach((logit, v) => {
      dLogits[n * V + v] = scale * (Math.exp(logit - total) - (v === target ? 1 : 0));
    });
  });
  return dLogits;
}

function logSumExp(row: Float64Array): number {
  const peak = row.reduce((a, b) => Math.max(a, b));
  return peak + Math.log(row.reduce((sum, value) => sum + Math.exp(value - peak), 0));
}
