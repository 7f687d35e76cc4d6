// Sums over whole tensors and the clipping factor in float64, naive. Formulas: lib/core/ops.ts.

/** Σ x. */
export function sum(x: Float64Array): number {
  return x.reduce((total, value) => total + value, 0);
}

/** Σ x². */
export function sumOfSquares(x: Float64Array): number {
  return x.reduce((total, value) => total + value * value, 0);
}

/** [factor, norm] for gradients whose summed squares these are; the factor is 0 when the step must be skipped. */
export function clipScale(
  squares: Float64Array,
  loss: number,
  maxNorm: number,
): readonly [number, number] {
  const norm = Math.sqrt(sum(squares));
  if (!Number.isFinite(norm) || !Number.isFinite(loss)) return [0, norm];
  return [maxNorm === 0 ? 1 : Math.min(1, maxNorm / (norm + 1e-6)), norm];
}
