// Names of chunk files: part, source, process and number, as in `train_slimpajama_7_0000000012.bin` of the original. Our
// own have no process; the code that the original descends from says no part either (`arxiv_0000000000.bin`).

/** The part of a source that a chunk file belongs to. */
export type ChunkPart = "train" | "validation" | "test";

/** What the name of a chunk file says. */
export interface ChunkName {
  readonly part: ChunkPart;
  readonly source: string;
  /** Each process wrote a stream of its own; null where there was but one. */
  readonly process: number | null;
  /** The file's place in its stream, from 0. */
  readonly number: number;
}

const PATTERN =
  /^(?:(?<part>train|validation|test)_)?(?<source>[A-Za-z0-9][A-Za-z0-9_-]*?)(?:_(?<process>\d+))?_(?<number>\d{10})\.bin$/;

/** Reads a file name; null when it is not that of a chunk file. */
export function parseChunkName(fileName: string): ChunkName | null {
  const groups = PATTERN.exec(fileName)?.groups;
  if (groups === undefined) return null;
  const { part = "train", source, process, number } = groups;
  return {
    part: part === "validation" || part === "test" ? part : "train",
    source,
    process: process === undefined ? null : Number(process),
    number: Number(number),
  };
}

/** Orders the names of a source's part by process and number: neighbours are neighbours in a stream of tokens. */
export function compareChunkNames(a: ChunkName, b: ChunkName): number {
  return (a.process ?? -1) - (b.process ?? -1) || a.number - b.number;
}
