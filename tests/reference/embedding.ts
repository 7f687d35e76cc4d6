// Token rows in float64, naive: the specification of the embedding family. Formulas: lib/core/ops.ts.

/** out (N, C) = the rows of table (V, C) that tokens (N) name. */
export function embeddingForward(
  tokens: Int32Array,
  table: Float64Array,
  C: number,
): Float64Array {
  const out = new Float64Array(tokens.length * C);
  tokens.forEach((token, n) => out.set(table.subarray(token * C, (token + 1) * C), n * C));
  return out;
}

/** dTable (V, C): each row sums the dOut (N, C) rows of its token. */
export function embeddingBackward(
  dOut: Float64Array,
  tokens: Int32Array,
  V: number,
  C: number,
): Float64Array {
  const dTable = new Float64Array(V * C);
  tokens.forEach((token, n) => {
    for (let c = 0; c < C; c++) dTable[token * C + c] += dOut[n * C + c];
  });
  return dTable;
}
