// Rotary position embedding in float64, naive. Formulas: lib/core/ops.ts.

/** Which heads a qkv row (H+2K, D) holds: H query, K key, K value heads. */
export interface RopeShape {
  readonly H: number;
  readonly K: number;
  readonly D: number;
}

/** qkv (N, H+2K, D) with its query and key heads rotated by positions (N); table (S, D) holds cosines, then sines. */
export function ropeForward(
  qkv: Float64Array,
  table: Float64Array,
  positions: Int32Array,
  shape: RopeShape,
): Float64Array {
  return rotate(qkv, table, positions, shape, 1);
}

/** The gradient of {@linkcode ropeForward}: the rotation by the opposite angle. */
export function ropeBackward(
  dQkv: Float64Array,
  table: Float64Array,
  positions: Int32Array,
  shape: RopeShape,
): Float64Array {
  return rotate(dQkv, table, positions, shape, -1);
}

function rotate(
  qkv: Float64Array,
  table: Float64Array,
  positions: Int32Array,
  { H, K, D }: RopeShape,
  direction: 1 | -1,
): Float64Array {
  const out = qkv.slice();
  positions.forEach((position, n) => {
    for (let head = 0; head < H + K; head++) {
      for (let j = 0; j < D / 2; j++) {
        const cos = table[position * D + j], sin = direction * table[position * D + D / 2 + j];
        const at = (n * (H + 2 * K) + head) * D + j;
        const a = qkv[at], b = qkv[at + D / 2];
        out[at] = a * cos - b * sin;
        out[at + D / 2] = b * cos + a * sin;
      }
    }
  });
  return out;
}
