// A linear layer without bias in float64, naive. Formulas: lib/core/ops.ts.

/** out (N, O) = x (N, I) · weightᵀ, weight (O, I), plus addend (N, O) where there is one. */
export function linearForward(
  x: Float64Array,
  weight: Float64Array,
  I: number,
  addend: Float64Array | null,
): Float64Array {
  const N = x.length / I, O = weight.length / I;
  const out = new Float64Array(N * O);
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < O; o++) {
      let sum = addend === null ? 0 : addend[n * O + o];
      for (let i = 0; i < I; i++) sum += x[n * I + i] * weight[o * I + i];
      out[n * O + o] = sum;
    }
  }
  return out;
}

/** dX (N, I) = dOut (N, O) · weight (O, I). */
export function linearBackwardInput(
  dOut: Float64Array,
  weight: Float64Array,
  I: number,
): Float64Array {
  const O = weight.length / I, N = dOut.length / O;
  const dX = new Float64Array(N * I);
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < O; o++) {
      for (let i = 0; i < I; i++) dX[n * I + i] += dOut[n * O + o] * weight[o * I + i];
    }
  }
  return dX;
}

/** dWeight (O, I) = dOut (N, O)ᵀ · x (N, I). */
export function linearBackwardWeight(
  dOut: Float64Array,
  x: Float64Array,
  I: number,
): Float64Array {
  const N = x.length / I, O = dOut.length / N;
  const dWeight = new Float64Array(O * I);
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < O; o++) {
      for (let i = 0; i < I; i++) dWeight[o * I + i] += dOut[n * O + o] * x[n * I + i];
    }
  }
  return dWeight;
}
