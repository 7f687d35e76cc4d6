// How the next token is drawn: defaults and the ranges of every option. The drawing itself is `sampleToken` of ops.ts.

import { UsageError } from "../core/errors.ts";
import type { SamplingOptions } from "../core/ops.ts";

/**
 * What is not asked for otherwise. A model folder's generation_config.json may recommend other values; they are not
 * applied, so that the same command means the same with every model.
 */
export const DEFAULT_SAMPLING: SamplingOptions = {
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1,
};

const SEED_LIMIT = Number.MAX_SAFE_INTEGER;

/**
 * The options with defaults in place of those absent.
 * @throws {UsageError} for a value out of its range, naming it and the range.
 */
export function resolveSampling(options: Partial<SamplingOptions>): SamplingOptions {
  const pick = (key: keyof SamplingOptions) => options[key] ?? DEFAULT_SAMPLING[key];
  const resolved: SamplingOptions = {
    temperature: pick("temperature"),
    topK: pick("topK"),
    topP: pick("topP"),
    minP: pick("minP"),
    repetitionPenalty: pick("repetitionPenalty"),
  };
  const { temperature, topK, topP, minP, repetitionPenalty } = resolved;
  const isFinite = Number.isFinite;
  check(isFinite(temperature) && temperature >= 0, "temperature", temperature, "0 or above");
  check(Number.isInteger(topK) && topK >= 0, "top-k", topK, "a whole number, 0 or above");
  check(topP > 0 && topP <= 1, "top-p", topP, "above 0 and at most 1");
  check(minP >= 0 && minP <= 1, "min-p", minP, "from 0 to 1");
  check(
    isFinite(repetitionPenalty) && repetitionPenalty > 0,
    "repetition penalty",
    repetitionPenalty,
    "above 0",
  );
  return resolved;
}

/**
 * The seed itself, or a random one for null.
 * @throws {UsageError} when it is not a whole number from 0 to 2^53 − 1.
 */
export function resolveSeed(seed: number | null): number {
  if (seed === null) return crypto.getRandomValues(new Uint32Array(1))[0];
  check(
    Number.isSafeInteger(seed) && seed >= 0,
    "seed",
    seed,
    `a whole number from 0 to ${SEED_LIMIT}`,
  );
  return seed;
}

function check(isInRange: boolean, name: string, value: number, range: string): void {
  if (!isInRange) throw new UsageError(`Cannot sample with ${name} ${value}: expected ${range}`);
}
