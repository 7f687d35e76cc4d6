// Values of command line flags.

import { UsageError } from "../core/errors.ts";

/** Collects a flag that may be repeated, for `Command.option`. */
export function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** @throws {UsageError} naming the flag when `text` is no number. */
export function numberFlag(flag: string, text: string): number {
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isFinite(value)) return value;
  throw new UsageError(`Cannot use ${flag} "${text}": expected a number`);
}
