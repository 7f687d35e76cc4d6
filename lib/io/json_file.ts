// JSON files of a model folder.

import { FormatError } from "../core/errors.ts";

/**
 * What a JSON file holds.
 * @throws {FormatError} when it is not valid JSON; @throws {Deno.errors.NotFound} when it is not there.
 */
export function readJson(path: string): unknown {
  const text = Deno.readTextFileSync(path);
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(`Cannot read "${path}": it is not valid JSON (${reason})`);
  }
}
