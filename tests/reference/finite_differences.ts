// Central differences in float64, the proof of the hand-derived gradients beside this file, and seeded inputs for it.

/** `count` values from −1 to 1, a pure function of `seed`; no two seeds give the same ones. */
export function seeded(count: number, seed: number): Float64Array {
  return new Float64Array(count).map((_, i) => {
    const x = Math.sin(12.9898 * (i + 1) + 78.233 * (seed + 1)) * 43758.5453;
    return 2 * (x - Math.floor(x)) - 1;
  });
}

/** Σ a · b: with a fixed `a`, the scalar whose gradient at b is a. */
export function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

/** (f(x + h) − f(x − h)) / 2h for every element; the error is near 1e-10 of f for smooth f of order one. */
export function differences(f: (x: Float64Array) => number, x: Float64Array): Float64Array {
  const h = 1e-5;
  return x.map((value, i) => {
    const moved = x.slice();
    moved[i] = value + h;
    const after = f(moved);
    moved[i] = value - h;
    return (after - f(moved)) / (2 * h);
  });
}

/** max |a − b| / max |b|: how far tensor `a` is from `b`, relative to the largest element of `b`; max |a| when b is 0. */
export function relativeError(a: Float64Array, b: Float64Array): number {
  const largest = b.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);
  return a.reduce((peak, value, i) => Math.max(peak, Math.abs(value - b[i])), 0) /
    (largest === 0 ? 1 : largest);
}
