// Appending keys and values to a cache in float64, naive. Formulas: lib/core/ops.ts.

import type { AttentionShape } from "./attention.ts";

/** keys and values (B, K, S, D) after the key and value heads of qkv (B, T, H+2K, D) went to slots positions (B, T). */
export function kvCacheAppend(
  keys: Float64Array,
  values: Float64Array,
  qkv: Float64Array,
  positions: Int32Array,
  { B, T, H, K, D }: AttentionShape,
): { readonly keys: Float64Array; readonly values: Float64Array } {
  const S = keys.length / (B * K * D);
  const after = { keys: keys.slice(), values: values.slice() };
  positions.forEach((position, n) => {
    const b = Math.floor(n / T);
    for (let k = 0; k < K; k++) {
      const slot = ((b * K + k) * S + position) * D;
      const row = (head: number) => qkv.subarray((n * (H + 2 * K) + head) * D).subarray(0, D);
      after.keys.set(row(H + k), slot);
      after.values.set(row(H + K + k), slot);
    }
  });
  return after;
}
