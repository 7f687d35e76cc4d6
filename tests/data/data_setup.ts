// Shared by the data tests: folders of texts, and chunk files of known tokens.

import { dirname, join } from "node:path";
import { type PackedPart, PackedTokens } from "../../lib/io/packed_stream.ts";
import { PackedWriter } from "../../lib/io/packed_tokens.ts";

/** Writes files by their path below `folder`. */
export function writeFiles(
  folder: string,
  files: Readonly<Record<string, string | Uint8Array>>,
): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    Deno.mkdirSync(dirname(path), { recursive: true });
    if (typeof content === "string") Deno.writeTextFileSync(path, content);
    else Deno.writeFileSync(path, content);
  }
}

/** Ids 0, 1, 2, … in chunk files of `chunkTokens`. */
export function writeCounting(
  folder: string,
  prefix: string,
  tokens: number,
  chunkTokens: number,
): PackedPart[] {
  const writer = new PackedWriter(folder, prefix, "i32", chunkTokens);
  writer.append(Int32Array.from({ length: tokens }, (_, i) => i), tokens);
  return writer.finish().map(({ name, tokens }) => ({ path: join(folder, name), tokens }));
}

/** All tokens of files. */
export function tokensOf(parts: readonly PackedPart[], vocabSize = 1 << 30): number[] {
  using stream = new PackedTokens(parts, vocabSize);
  const ids = new Int32Array(stream.length);
  stream.read(0, ids, 0, ids.length);
  return [...ids];
}

/** Words that do not repeat soon, about `bytes` of them, in lines. */
export function prose(bytes: number, seed = 1): string {
  let text = "";
  for (let i = seed * 1000; text.length < bytes; i++) {
    text += `${(i * 2654435761 % 99991).toString(36)}${i % 7 === 0 ? ".\n" : " "}`;
  }
  return text;
}

/**
 * A chunk file as the original writes it with struct and numpy: "LITPKDS", version 1, the type's code (8 is u16, 4 is
 * i32), the count, the ids, all little-endian.
 */
export function foreignChunk(ids: readonly number[], code: 8 | 4): Uint8Array {
  const width = code === 8 ? 2 : 4;
  const bytes = new Uint8Array(24 + ids.length * width);
  const put = (at: number, value: number, size: number) => {
    for (let i = 0; i < size; i++) bytes[at + i] = Math.floor(value / 256 ** i) % 256;
  };
  [..."LITPKDS"].forEach((letter, i) => bytes[i] = letter.charCodeAt(0));
  put(7, 1, 8);
  put(15, code, 1);
  put(16, ids.length, 8);
  ids.forEach((id, i) => put(24 + i * width, id, width));
  return bytes;
}
