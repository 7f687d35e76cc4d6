// SwiGLU in float64, naive. Formulas: lib/core/ops.ts.

/** out (N, F) = silu(gate) · up of gateUp (N, 2F). */
export function swigluForward(gateUp: Float64Array, F: number): Float64Array {
  return Float64Array.from({ length: gateUp.length / 2 }, (_, i) => {
    const at = Math.floor(i / F) * 2 * F + i % F;
    return gateUp[at] * sigmoid(gateUp[at]) * gateUp[at + F];
  });
}

/** dGateUp (N, 2F) from dOut (N, F). */
export function swigluBackward(
  dOut: Float64Array,
  gateUp: Float64Array,
  F: number,
): Float64Array {
  const dGateUp = new Float64Array(gateUp.length);
  dOut.forEach((d, i) => {
    const at = Math.floor(i / F) * 2 * F + i % F;
    const gate = gateUp[at], up = gateUp[at + F], s = sigmoid(gate);
    dGateUp[at] = d * up * s * (1 + gate * (1 - s));
    dGateUp[at + F] = d * gate * s;
  });
  return dGateUp;
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
