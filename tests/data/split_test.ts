// Held-out documents: their share, that copies stay together, and what happens where there is little to choose from.

import assert from "node:assert/strict";
import { join } from "node:path";
import { DocumentReader, type TextDocument } from "../../lib/data/document.ts";
import { splitDocuments } from "../../lib/data/split.ts";
import { inTempFolder } from "../temp_folder.ts";
import { prose, writeFiles } from "./data_setup.ts";

function documentsIn(folder: string, texts: readonly string[], reader: DocumentReader) {
  return texts.flatMap((text, i): readonly TextDocument[] => {
    writeFiles(folder, { [`${i}.txt`]: text });
    const found = reader.survey(join(folder, `${i}.txt`), new TextEncoder().encode(text).length);
    return typeof found === "string" ? [] : found;
  });
}

const bytesOf = (documents: readonly TextDocument[]) =>
  documents.reduce((sum, { length }) => sum + length, 0);

async function split(
  texts: readonly string[],
  share: number,
  check: (split: { train: readonly TextDocument[]; validation: readonly TextDocument[] }) => void,
) {
  await inTempFolder((folder) => {
    const reader = new DocumentReader();
    const documents = documentsIn(folder, texts, reader);
    const parts = splitDocuments(documents, share, reader);
    const ranges = [...parts.train, ...parts.validation]
      .sort((a, b) => a.path < b.path ? -1 : a.path > b.path ? 1 : a.offset - b.offset);
    const texts2 = new Map<string, number>();
    for (const { path, offset, length } of ranges) {
      assert.equal(offset, texts2.get(path) ?? 0, "a gap or an overlap");
      texts2.set(path, offset + length);
    }
    assert.equal(bytesOf(ranges), bytesOf(documents));
    check(parts);
  });
}

Deno.test("many documents: about the share of the bytes, whole documents", () =>
  split(Array.from({ length: 400 }, (_, i) => prose(200 + i % 300, i)), 0.05, (parts) => {
    const share = bytesOf(parts.validation) / (bytesOf(parts.train) + bytesOf(parts.validation));
    assert.ok(share >= 0.05 && share < 0.06, `${share}`);
    assert.equal(parts.train.length + parts.validation.length, 400);
  }));

Deno.test("copies of a text come to the same side", () =>
  split(Array.from({ length: 200 }, (_, i) => prose(300, i % 50)), 0.2, ({ train, validation }) => {
    const held = new Set(validation.map(({ hash }) => hash));
    assert.ok(held.size >= 5);
    assert.ok(train.every(({ hash }) => !held.has(hash)));
  }));

Deno.test("the choice depends on content, not on names or order", () =>
  inTempFolder((folder) => {
    const reader = new DocumentReader();
    const texts = Array.from({ length: 60 }, (_, i) => prose(300, i));
    const hashes = [texts, texts.toReversed()].map((order) =>
      splitDocuments(documentsIn(folder, order, reader), 0.2, reader).validation
        .map(({ hash }) => hash).sort()
    );
    assert.deepEqual(hashes[0], hashes[1]);
  }));

Deno.test("one big file: its tail is cut off", () =>
  split([prose(100_000)], 0.02, ({ train, validation }) => {
    assert.deepEqual([train.length, validation.length], [1, 1]);
    assert.ok(Math.abs(validation[0].length - 2000) < 200, `${validation[0].length}`);
  }));

Deno.test("one big file beside small ones is not held out as a whole", () =>
  split([prose(100_000), prose(50, 2), prose(60, 3)], 0.02, ({ train, validation }) => {
    assert.ok(bytesOf(validation) > 1000 && bytesOf(validation) < 4000);
    assert.ok(bytesOf(train) > 95_000);
  }));

Deno.test("the smallest corpora still have something for both", async () => {
  for (const texts of [["ab"], ["a", "b"], ["a", "b", "c"], ["one line\n"], ["a\n", "b\n"]]) {
    for (const share of [0.01, 0.5]) {
      await split(texts, share, ({ train, validation }) => {
        assert.ok(train.length > 0 && bytesOf(train) > 0);
        assert.ok(bytesOf(validation) > 0, `${JSON.stringify(texts)} at ${share}`);
      });
    }
  }
});

Deno.test("a share of 0 holds nothing out, and one character cannot be shared", async () => {
  await split([prose(1000)], 0, ({ validation }) => assert.equal(validation.length, 0));
  await split(["é"], 0.5, ({ validation }) => assert.equal(validation.length, 0));
});
