// Which source each training sample comes from: shares by tokens, as even as whole samples allow, and a pure function of
// the sample's index. Nothing is drawn, so no batch has more of a source than its share by chance.

import { UsageError } from "../core/errors.ts";

/** Longest schedule before it repeats; shares are rounded to its inverse. */
const MAX_PERIOD = 1 << 16;

/**
 * A schedule of sources that repeats with a period. After any number of samples each source has had its share to within
 * one sample. The rule is Tijdeman's (1980), "The chairman assignment problem".
 */
export class Mixture {
  /** Samples until the schedule repeats. */
  readonly period: number;
  /** Samples of each source in a period. */
  readonly counts: readonly number[];
  readonly #sources: Uint16Array; // (period): source of each sample
  readonly #numbers: Int32Array; //  (period): how many samples of its source precede it in the period

  /** `shares` are positive; only their ratios count. Shares below 1 / 65536 become that. */
  constructor(shares: readonly number[]) {
    const total = shares.reduce((sum, share) => sum + share, 0);
    this.counts = wholeCounts(shares.map((share) => share / total));
    this.period = this.counts.reduce((sum, count) => sum + count, 0);
    this.#sources = schedule(this.counts, this.period);
    this.#numbers = new Int32Array(this.period);
    const passed = new Int32Array(shares.length);
    this.#sources.forEach((source, i) => this.#numbers[i] = passed[source]++);
  }

  /** The source of a sample, by its place in the shares. */
  sourceOf(sample: number): number {
    return this.#sources[sample % this.period];
  }

  /** How many samples of the same source come before this one. */
  numberOf(sample: number): number {
    const place = sample % this.period;
    const periods = (sample - place) / this.period;
    return periods * this.counts[this.#sources[place]] + this.#numbers[place];
  }
}

/** Shares as whole counts: exact for the shortest period that allows it, else rounded for the longest. */
function wholeCounts(shares: readonly number[]): number[] {
  for (let period = 1; period <= MAX_PERIOD; period++) {
    const counts = shares.map((share) => Math.round(share * period));
    const isExact = counts.every((count, i) =>
      count > 0 && Math.abs(shares[i] * period - count) < 1e-9
    );
    if (isExact) return counts;
  }
  const counts = shares.map((share) => Math.max(1, Math.round(share * MAX_PERIOD)));
  const largest = counts.indexOf(Math.max(...counts));
  counts[largest] += MAX_PERIOD - counts.reduce((sum, count) => sum + count, 0);
  return counts;
}

/**
 * Each place goes to the source that would be late soonest, among those that would not be early. All in whole numbers:
 * a source's credit after k places is k · count − period · (places it had).
 */
function schedule(counts: readonly number[], period: number): Uint16Array {
  const sources = new Uint16Array(period);
  if (counts.length === 1) return sources;
  const slack = period / (2 * counts.length - 2);
  const credit = counts.map(() => 0);
  for (let place = 0; place < period; place++) {
    let chosen = -1;
    let soonest = Infinity;
    for (let i = 0; i < counts.length; i++) {
      credit[i] += counts[i];
      if (credit[i] < slack) continue;
      const placesLeft = (period - slack - credit[i]) / counts[i];
      if (placesLeft >= soonest) continue;
      soonest = placesLeft;
      chosen = i;
    }
    credit[chosen] -= period;
    sources[place] = chosen;
  }
  return sources;
}

/** A source and how many tokens it has for training. */
export interface SourceTokens {
  readonly name: string;
  readonly tokens: number;
}

/**
 * The share of each source: the weight with its name, or its tokens where `weights` is null.
 * @throws {UsageError} naming weights without a source and sources without a weight.
 */
export function sourceShares(
  sources: readonly SourceTokens[],
  weights: Readonly<Record<string, number>> | null,
): number[] {
  if (weights === null) return sources.map(({ tokens }) => tokens);
  const byName = new Map(Object.entries(weights));
  const unknown = [...byName.keys()].filter((key) => sources.every(({ name }) => name !== key));
  const missing = sources.filter(({ name }) => !byName.has(name)).map(({ name }) => name);
  if (unknown.length + missing.length === 0) {
    return sources.map(({ name }) => byName.get(name) ?? 0);
  }
  const quoted = (names: readonly string[]) => names.map((name) => `"${name}"`).join(", ");
  const problems = [
    ...(unknown.length > 0 ? [`the data has no source ${quoted(unknown)}`] : []),
    ...(missing.length > 0 ? [`there is no weight for source ${quoted(missing)}`] : []),
  ];
  throw new UsageError(
    `Cannot mix by data.weights: ${problems.join(", and ")}; expected a weight for each of ` +
      `${quoted(sources.map(({ name }) => name))}, or null, which takes sources by their size`,
  );
}
