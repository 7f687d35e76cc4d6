// Which documents of a source are held out for validation: a share of its bytes, chosen by content.

import { cutTail, type DocumentReader, type TextDocument } from "./document.ts";

/** The documents of a source, both parts in their order. */
export interface DocumentSplit {
  readonly train: readonly TextDocument[];
  readonly validation: readonly TextDocument[];
}

/**
 * Holds out documents in the order of their content's hash until they are `share` of the bytes. A choice by content
 * depends neither on names nor on order, and all copies of a text come to the same side. A document that would more than
 * double the share is passed over; where that leaves less than half of it (few documents, one big file), the tail of the
 * longest document is cut off and becomes a document of its own. At least half of the bytes stay for training.
 */
export function splitDocuments(
  documents: readonly TextDocument[],
  share: number,
  reader: DocumentReader,
): DocumentSplit {
  const total = documents.reduce((sum, { length }) => sum + length, 0);
  if (share === 0 || total === 0) return { train: documents, validation: [] };
  const wanted = Math.max(1, Math.round(share * total));
  const limit = Math.min(2 * wanted, total / 2);
  const chosen = new Set<number>();
  let held = 0;
  for (const [hash, bytes] of bytesByHash(documents)) {
    if (held >= wanted) break;
    if (held + bytes > limit) continue;
    chosen.add(hash);
    held += bytes;
  }
  const train = documents.filter(({ hash }) => !chosen.has(hash));
  const validation = documents.filter(({ hash }) => chosen.has(hash));
  if (held >= wanted / 2) return { train, validation };
  return withTail(train, validation, Math.min(wanted - held, total / 2), reader);
}

/** Bytes of all documents with the same content, by ascending hash. */
function bytesByHash(documents: readonly TextDocument[]): [number, number][] {
  const bytes = new Map<number, number>();
  for (const { hash, length } of documents) bytes.set(hash, (bytes.get(hash) ?? 0) + length);
  return [...bytes].sort(([a], [b]) => a - b);
}

function withTail(
  train: readonly TextDocument[],
  validation: readonly TextDocument[],
  tailBytes: number,
  reader: DocumentReader,
): DocumentSplit {
  const longest = train.reduce((a, b) => b.length > a.length ? b : a);
  const parts = cutTail(longest, reader.read(longest), Math.ceil(tailBytes));
  if (parts === null) return { train, validation };
  const [head, tail] = parts;
  return {
    train: train.map((document) => document === longest ? head : document),
    validation: [...validation, tail],
  };
}
