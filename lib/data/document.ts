// One document: a range of bytes in a text file. Files beyond a size are cut into several, so that one always fits into
// memory.

import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { FormatError } from "../core/errors.ts";

/** A document in its file. */
export interface TextDocument {
  readonly path: string;
  /** In bytes, as `length`. */
  readonly offset: number;
  readonly length: number;
  /** The first 48 bits of its content's SHA-256. */
  readonly hash: number;
}

/** Why the content of a file is no text. */
export type ContentProblem = "empty" | "binary" | "not UTF-8";

/** The longest document; a longer file is cut after the last line that ends within it. */
const MAX_DOCUMENT_BYTES = 16 << 20;

const NEWLINE = 10;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/**
 * Reads files one after another through one buffer. What it lends is valid until the next call.
 */
export class DocumentReader {
  readonly #maxBytes: number;
  #buffer = new Uint8Array(1 << 16);

  /** `maxBytes` is the longest document, at least 8. */
  constructor(maxBytes = MAX_DOCUMENT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /**
   * The documents of a file of `size` bytes, read and checked to the end: one, or several for a long file. A byte order
   * mark is left out.
   */
  survey(path: string, size: number): readonly TextDocument[] | ContentProblem {
    this.#reserve(Math.min(size, this.#maxBytes));
    const handle = openSync(path, "r");
    try {
      return this.#cut(path, handle, size);
    } finally {
      closeSync(handle);
    }
  }

  /**
   * The bytes of a document.
   * @throws {FormatError} when its file has become shorter.
   */
  read({ path, offset, length }: TextDocument): Uint8Array {
    this.#reserve(length);
    const handle = openSync(path, "r");
    try {
      const count = this.#fill(handle, offset, length);
      if (count === length) return this.#buffer.subarray(0, length);
      throw new FormatError(
        `Cannot read "${path}": it ends at byte ${offset + count}, expected ${offset + length}; ` +
          "it was changed while it was read",
      );
    } finally {
      closeSync(handle);
    }
  }

  #cut(path: string, handle: number, size: number): TextDocument[] | ContentProblem {
    const documents: TextDocument[] = [];
    let offset = 0;
    while (offset < size) {
      const count = this.#fill(handle, offset, Math.min(size - offset, this.#maxBytes));
      if (count === 0) break;
      const window = this.#buffer.subarray(0, count);
      const start = offset === 0 && BYTE_ORDER_MARK.every((byte, i) => window[i] === byte) ? 3 : 0;
      const end = offset + count < size ? lastCut(window) : count;
      const bytes = window.subarray(start, end);
      if (bytes.includes(0)) return "binary";
      if (!isUtf8(bytes)) return "not UTF-8";
      if (bytes.length > 0) {
        const hash = createHash("sha256").update(bytes).digest().readUIntBE(0, 6);
        documents.push({ path, offset: offset + start, length: bytes.length, hash });
      }
      offset += end;
    }
    return documents.length === 0 ? "empty" : documents;
  }

  #reserve(length: number): void {
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
  }

  #fill(handle: number, position: number, length: number): number {
    for (let done = 0; done < length;) {
      const count = readSync(handle, this.#buffer, done, length - done, position + done);
      if (count === 0) return done;
      done += count;
    }
    return length;
  }
}

/** Where to cut text that goes on after `bytes`: after the last newline, between characters when there is none. */
function lastCut(bytes: Uint8Array): number {
  const line = bytes.lastIndexOf(NEWLINE) + 1;
  return line > 0 ? line : characterStart(bytes, bytes.length - 1);
}

/** The start of the character that the byte at `position` belongs to; `position` itself if that is no UTF-8. */
function characterStart(bytes: Uint8Array, position: number): number {
  let start = position;
  while (start > position - 3 && start > 0 && (bytes[start] & 0xc0) === 0x80) start--;
  return (bytes[start] & 0xc0) === 0x80 ? position : start;
}

/**
 * Cuts about the last `tailBytes` bytes off as a document of their own, at a line end if there is one near, else between
 * characters. `bytes` is the document's content. Null when it has only one character.
 */
export function cutTail(
  document: TextDocument,
  bytes: Uint8Array,
  tailBytes: number,
): readonly [TextDocument, TextDocument] | null {
  const { length } = document;
  const wanted = Math.max(0, length - tailBytes);
  const shortest = tailBytes / 2, longest = Math.max(2 * tailBytes, length / 8);
  const lines = [
    bytes.indexOf(NEWLINE, wanted) + 1,
    bytes.subarray(0, wanted).lastIndexOf(NEWLINE) + 1,
  ].filter((cut) => length - cut >= shortest && length - cut <= longest);
  const characters = [characterStart(bytes, wanted), nextCharacter(bytes, wanted)];
  const at = [...lines, ...characters].find((cut) => cut > 0 && cut < length);
  if (at === undefined) return null;
  return [
    { ...document, length: at },
    { ...document, offset: document.offset + at, length: length - at },
  ];
}

function nextCharacter(bytes: Uint8Array, position: number): number {
  let next = position + 1;
  while (next < bytes.length && (bytes[next] & 0xc0) === 0x80) next++;
  return next;
}
