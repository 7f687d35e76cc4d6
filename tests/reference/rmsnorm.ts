// Root mean square normalization in float64, naive. Formulas: lib/core/ops.ts.

/** out (N, C) and rstd (N) of x (N, C) with gains weight (C). */
export function rmsnormForward(
  x: Float64Array,
  weight: Float64Array,
  eps: number,
): { readonly out: Float64Array; readonly rstd: Float64Array } {
  const C = weight.length, N = x.length / C;
  const out = new Float64Array(N * C), rstd = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    const row = x.subarray(n * C, (n + 1) * C);
    const meanSquare = row.reduce((sum, value) => sum + value * value, 0) / C;
    rstd[n] = 1 / Math.sqrt(meanSquare + eps);
    for (let c = 0; c < C; c++) out[n * C + c] = row[c] * rstd[n] * weight[c];
  }
  return { out, rstd };
}

/** The gradients dX (N, C) and dWeight (C); rstd (N) is what the forward pass left. */
export function rmsnormBackward(
  dOut: Float64Array,
  x: Float64Array,
  weight: Float64Array,
  rstd: Float64Array,
): { readonly dX: Float64Array; readonly dWeight: Float64Array } {
  const C = weight.length, N = rstd.length;
  const dX = new Float64Array(N * C), dWeight = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const r = rstd[n];
    let meanGx = 0;
    for (let c = 0; c < C; c++) meanGx += dOut[n * C + c] * weight[c] * x[n * C + c] / C;
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      dX[i] = r * (dOut[i] * weight[c] - x[i] * r * r * meanGx);
      dWeight[c] += dOut[i] * x[i] * r;
    }
  }
  return { dX, dWeight };
}
