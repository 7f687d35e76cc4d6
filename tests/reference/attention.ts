// Causal grouped-query attention in float64, naive: all scores of a query at once. Formulas: lib/core/ops.ts.

/** The extents of qkv (B, T, H+2K, D). */
export interface AttentionShape {
  readonly B: number;
  readonly T: number;
  readonly H: number;
  readonly K: number;
  readonly D: number;
}

/** out (B, T, H, D), and lse (B, H, T) = log Σ exp of each query's scaled scores. */
export function attentionForward(
  qkv: Float64Array,
  shape: AttentionShape,
): { readonly out: Float64Array; readonly lse: Float64Array } {
  const { B, T, H, D } = shape;
  const out = new Float64Array(B * T * H * D), lse = new Float64Array(B * H * T);
  forEachQuery(shape, (b, t, h) => {
    const { query, key, value } = heads(qkv, shape, b, h);
    const { weights, logSum } = softmax(query(t), t + 1, key);
    lse[(b * H + h) * T + t] = logSum;
    const row = out.subarray(((b * T + t) * H + h) * D).subarray(0, D);
    weights.forEach((weight, s) => addScaled(row, weight, value(s)));
  });
  return { out, lse };
}

/** dQkv (B, T, H+2K, D) from dOut (B, T, H, D) and what the forward pass left. */
export function attentionBackward(
  dOut: Float64Array,
  qkv: Float64Array,
  { out, lse }: { readonly out: Float64Array; readonly lse: Float64Array },
  shape: AttentionShape,
): Float64Array {
  const { T, H, D } = shape;
  const scale = 1 / Math.sqrt(D);
  const dQkv = new Float64Array(qkv.length);
  forEachQuery(shape, (b, t, h) => {
    const { query, key, value } = heads(qkv, shape, b, h);
    const d = heads(dQkv, shape, b, h);
    const row = (x: Float64Array) => x.subarray(((b * T + t) * H + h) * D).subarray(0, D);
    const q = query(t), dQ = d.query(t), dO = row(dOut);
    // Σ weights · dWeights, because the output is the weighted sum of the values.
    const mean = dot(dO, row(out));
    for (let s = 0; s <= t; s++) {
      const weight = Math.exp(dot(q, key(s)) * scale - lse[(b * H + h) * T + t]);
      const dScore = weight * (dot(dO, value(s)) - mean) * scale;
      addScaled(dQ, dScore, key(s));
      addScaled(d.key(s), dScore, q);
      addScaled(d.value(s), weight, dO);
    }
  });
  return dQkv;
}

/** out (B, T, H, D) of queries against the slots 0 … positions (B, T) of keys and values (B, K, S, D). */
export function attentionCached(
  qkv: Float64Array,
  keys: Float64Array,
  values: Float64Array,
  positions: Int32Array,
  shape: AttentionShape,
): Float64Array {
  const { B, T, H, K, D } = shape;
  const S = keys.length / (B * K * D);
  const out = new Float64Array(B * T * H * D);
  forEachQuery(shape, (b, t, h) => {
    const { query } = heads(qkv, shape, b, h);
    const slot = (cache: Float64Array) => (s: number) =>
      cache.subarray(((b * K + Math.floor(h * K / H)) * S + s) * D).subarray(0, D);
    const { weights } = softmax(query(t), positions[b * T + t] + 1, slot(keys));
    const row = out.subarray(((b * T + t) * H + h) * D).subarray(0, D);
    weights.forEach((weight, s) => addScaled(row, weight, slot(values)(s)));
  });
  return out;
}

function forEachQuery(
  { B, T, H }: AttentionShape,
  run: (b: number, t: number, h: number) => void,
): void {
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < H; h++) run(b, t, h);
    }
  }
}

/** Views (D) of query head `h` of sequence `b` and of the key and value head it reads, by position. */
function heads(qkv: Float64Array, { T, H, K, D }: AttentionShape, b: number, h: number) {
  const row = (head: number) => (t: number) =>
    qkv.subarray(((b * T + t) * (H + 2 * K) + head) * D).subarray(0, D);
  const shared = Math.floor(h * K / H);
  return { query: row(h), key: row(H + shared), value: row(H + K + shared) };
}

/** Softmax of the scaled scores of `query` with the first `count` keys. */
function softmax(query: Float64Array, count: number, key: (s: number) => Float64Array) {
  const scores = Float64Array.from(
    { length: count },
    (_, s) => dot(query, key(s)) / Math.sqrt(query.length),
  );
  const peak = Math.max(...scores);
  const logSum = peak + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - peak), 0));
  return { weights: scores.map((score) => Math.exp(score - logSum)), logSum };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function addScaled(row: Float64Array, factor: number, source: Float64Array): void {
  for (let i = 0; i < row.length; i++) row[i] += factor * source[i];
}
