// What is found in folders, in which order and source, and what is left out for which reason.

import assert from "node:assert/strict";
import { join } from "node:path";
import { UsageError } from "../../lib/core/errors.ts";
import { type CorpusPath, surveyCorpus } from "../../lib/data/corpus.ts";
import { cutTail, DocumentReader } from "../../lib/data/document.ts";
import { textKind } from "../../lib/data/text_kind.ts";
import { inTempFolder } from "../temp_folder.ts";
import { writeFiles } from "./data_setup.ts";

const noPause = () => Promise.resolve();
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

async function survey(root: string, paths: readonly CorpusPath[], outputs: string[] = []) {
  const { sources, skipped } = await surveyCorpus(paths, outputs, noPause);
  const short = (path: string) => path.replace(`${root}/`, "");
  return {
    sources: Object.fromEntries(
      sources.map(({ name, documents }) => [name, documents.map(({ path }) => short(path))]),
    ),
    skipped: skipped.map(({ path, reason }) => [short(path), reason]),
  };
}

/** Texts of the documents that a file of `bytes` is cut into. */
function documentsOf(folder: string, bytes: Uint8Array, maxBytes: number): string[] | string {
  const path = join(folder, "long.txt");
  Deno.writeFileSync(path, bytes);
  const reader = new DocumentReader(maxBytes);
  const found = reader.survey(path, bytes.length);
  return typeof found === "string"
    ? found
    : found.map((document) => utf8.decode(reader.read(document)));
}

Deno.test("a file's name tells prose from code", () => {
  const kinds = ["a.md", "LICENSE", "notes.TXT", "x.ts", "Makefile", "a.test.c", "CMakeLists.txt"]
    .map(textKind);
  assert.deepEqual(kinds, ["prose", "prose", "prose", "code", "code", "code", "code"]);
  assert.deepEqual(["a.png", "noextension", "a.json", "a."].map(textKind), [
    null,
    null,
    null,
    null,
  ]);
});

Deno.test("folders are walked in sorted order, every file has a source or a reason", () =>
  inTempFolder(async (root) => {
    writeFiles(root, {
      "b/z.md": "z",
      "b/a.md": "a",
      "b/B.md": "B",
      "b/sub/c.ts": "c",
      "b/.git/config": "hidden",
      "b/.env": "hidden",
      "b/picture.png": "no kind",
      "b/binary.c": Uint8Array.of(65, 0, 66),
      "b/latin1.txt": Uint8Array.of(0x63, 0xe9),
      "b/empty.md": "",
      "b/mark.md": Uint8Array.of(0xef, 0xbb, 0xbf),
      "a.weird": "a text that was named",
    });
    Deno.symlinkSync(join(root, "b"), join(root, "b/loop"));
    const paths = ["b/", "a.weird"].map((name) => ({ path: join(root, name), source: null }));
    assert.deepEqual(await survey(root, paths), {
      sources: { prose: ["b/B.md", "b/a.md", "b/z.md", "a.weird"], code: ["b/sub/c.ts"] },
      skipped: [
        ["b/.env", "hidden"],
        ["b/.git", "hidden"],
        ["b/binary.c", "binary"],
        ["b/empty.md", "empty"],
        ["b/latin1.txt", "not UTF-8"],
        ["b/loop", "symbolic link"],
        ["b/mark.md", "empty"],
        ["b/picture.png", "neither prose nor code by its name"],
      ],
    });
  }));

Deno.test("under a name of its own a source takes every text file", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { "x/a.json": "{}", "x/b.ts": "b", "y/c.md": "c" });
    const paths = [
      { path: join(root, "x"), source: "mine" },
      { path: join(root, "y/c.md"), source: "mine" },
    ];
    assert.deepEqual(await survey(root, paths), {
      sources: { mine: ["x/a.json", "x/b.ts", "y/c.md"] },
      skipped: [],
    });
  }));

Deno.test("the output folder is not read as text", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { "a.md": "a", "data/out/b.md": "b" });
    const output = join(root, "data", "out");
    assert.deepEqual(await survey(root, [{ path: root, source: "all" }], [output, `${output}.x`]), {
      sources: { all: ["a.md"] },
      skipped: [["data/out", "the output folder"]],
    });
  }));

Deno.test("a path that is not there, or that lies in another, is refused", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { "docs/a.md": "a", "docs2/b.md": "b" });
    const at = (...names: string[]) =>
      names.map((name) => ({ path: join(root, name), source: null }));
    await assert.rejects(
      surveyCorpus(at("nothing"), [], noPause),
      new UsageError(`Cannot prepare "${root}/nothing": there is no such file or folder`),
    );
    for (
      const names of [["docs", "docs/a.md"], ["docs/a.md", "docs"], ["docs/a.md", "docs/a.md"]]
    ) {
      await assert.rejects(surveyCorpus(at(...names), [], noPause), /would count twice/);
    }
    assert.deepEqual((await survey(root, at("docs", "docs2"))).sources, {
      prose: ["docs/a.md", "docs2/b.md"],
    });
  }));

Deno.test("a long file is cut at line ends, and its parts together are the file", () =>
  inTempFolder((folder) => {
    const text = Array.from({ length: 200 }, (_, i) => `line ${i} ünï\n`).join("");
    const parts = documentsOf(folder, new TextEncoder().encode(text), 64);
    assert.ok(Array.isArray(parts) && parts.length > 40);
    assert.equal(parts.join(""), text);
    assert.ok(parts.every((part) => part.endsWith("\n")));
  }));

Deno.test("a long line is cut between characters", () =>
  inTempFolder((folder) => {
    for (const character of ["a", "é", "▁", "😀"]) {
      const text = "x" + character.repeat(100);
      const parts = documentsOf(folder, new TextEncoder().encode(text), 16);
      assert.ok(Array.isArray(parts) && parts.length > 5);
      assert.equal(parts.join(""), text);
    }
  }));

Deno.test("a byte order mark is left out; a wrong byte anywhere leaves the whole file out", () =>
  inTempFolder((folder) => {
    const text = new TextEncoder().encode(
      "\ufeffone line\n".padEnd(40, "x") + "\nand more of it\n",
    );
    const parts = documentsOf(folder, text, 40);
    assert.ok(Array.isArray(parts));
    assert.equal(
      `\ufeff${parts.join("")}`,
      new TextDecoder("utf-8", { ignoreBOM: true }).decode(text),
    );
    const damaged = text.slice();
    damaged[text.length - 3] = 0xff;
    assert.equal(documentsOf(folder, damaged, 40), "not UTF-8");
    damaged[text.length - 3] = 0;
    assert.equal(documentsOf(folder, damaged, 40), "binary");
  }));

Deno.test("a tail is cut at a line end near, else between characters, and nothing is lost", () => {
  const cases: [string, number, string | null][] = [
    ["one\ntwo\nthree\nfour\n", 6, "four\n"],
    ["one\ntwo\nthree\nfour\n", 9, "four\n"],
    ["a long line without an end", 4, " end"],
    ["ééééé", 3, "éé"],
    ["é", 1, null],
    ["x", 1, null],
    ["xy", 1, "y"],
    [
      `${"head\n".repeat(100)}${"a tail that is long".repeat(2)}`,
      10,
      "a tail that is long".repeat(2),
    ],
  ];
  for (const [text, tailBytes, expected] of cases) {
    const bytes = new TextEncoder().encode(text);
    const document = { path: "a", offset: 100, length: bytes.length, hash: 1 };
    const parts = cutTail(document, bytes, tailBytes);
    if (parts === null) {
      assert.equal(expected, null);
      continue;
    }
    const [head, tail] = parts;
    assert.equal(head.offset, 100);
    assert.equal(tail.offset, 100 + head.length);
    assert.equal(head.length + tail.length, bytes.length);
    assert.equal(utf8.decode(bytes.subarray(head.length)), expected);
    assert.ok(head.length > 0);
  }
});
