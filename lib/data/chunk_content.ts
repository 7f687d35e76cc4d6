// What is in a chunk file: how often some ids occur, and what it ends with.

import { type PackedPart, PackedTokens } from "../io/packed_stream.ts";

const BLOCK_TOKENS = 1 << 18;

/** The tokens of a chunk file in numbers. */
export interface ChunkContent {
  /** How often each of the ids that were asked for occurs. */
  readonly counts: readonly number[];
  /** The last token; -1 without tokens. */
  readonly last: number;
  /** How many times in a row it stands at the end. */
  readonly lastRun: number;
}

/**
 * Reads a chunk file to its end and counts `ids` in it.
 * @throws {FormatError} when it is damaged or has an id that is not below `vocabSize`.
 */
export function examineChunk(
  part: PackedPart,
  vocabSize: number,
  ids: readonly number[],
): ChunkContent {
  using stream = new PackedTokens([part], vocabSize);
  const block = new Int32Array(Math.min(BLOCK_TOKENS, stream.length));
  const counts = ids.map(() => 0);
  let last = -1, lastRun = 0;
  for (let first = 0; first < stream.length; first += block.length) {
    const tokens = block.subarray(0, Math.min(block.length, stream.length - first));
    stream.read(first, tokens, 0, tokens.length);
    ids.forEach((id, i) => counts[i] += countOf(tokens, id));
    const end = tokens[tokens.length - 1], run = runAtEnd(tokens);
    lastRun = run === tokens.length && end === last ? lastRun + run : run;
    last = end;
  }
  return { counts, last, lastRun };
}

function countOf(tokens: Int32Array, id: number): number {
  let count = 0;
  for (let i = 0; i < tokens.length; i++) if (tokens[i] === id) count++;
  return count;
}

function runAtEnd(tokens: Int32Array): number {
  let start = tokens.length - 1;
  while (start > 0 && tokens[start - 1] === tokens[start]) start--;
  return tokens.length - start;
}
