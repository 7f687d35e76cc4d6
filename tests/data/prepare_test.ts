// Prepared folders: every token of every document in order, one separator each, nothing padded or dropped, and folders
// that appear completely or not at all.

import assert from "node:assert/strict";
import { join } from "node:path";
import { FormatError, TinyllamaError, UsageError } from "../../lib/core/errors.ts";
import { auditData } from "../../lib/data/audit.ts";
import { type Manifest, type ManifestSplit, readManifest } from "../../lib/data/manifest.ts";
import { prepare, type PrepareOptions } from "../../lib/data/prepare.ts";
import { llamaTokenizer, Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import { inTempFolder } from "../temp_folder.ts";
import { prose, tokensOf, writeFiles } from "./data_setup.ts";

const tokenizer = await llamaTokenizer();
const EOS = 2;
const noPause = () => Promise.resolve();

function optionsFor(root: string, more: Partial<PrepareOptions> = {}): PrepareOptions {
  return {
    paths: [{ path: join(root, "texts"), source: null }],
    output: join(root, "out"),
    force: false,
    tokenizer,
    tokenizerName: "llama",
    chunkTokens: 100,
    validationShare: 0.1,
    ...more,
  };
}

function texts(count: number): Record<string, string> {
  const files: Record<string, string> = {};
  for (let i = 0; i < count; i++) {
    files[`texts/${String(i).padStart(3, "0")}.${i % 3 === 0 ? "ts" : "md"}`] = prose(
      80 + i * 7,
      i,
    );
  }
  return files;
}

function tokensIn(root: string, split: ManifestSplit): number[] {
  return tokensOf(
    split.files.map(({ name, tokens }) => ({ path: join(root, "out", name), tokens })),
  );
}

/** Documents of a stream, each as its text. */
function documentsIn(tokens: readonly number[]): string[] {
  const documents: string[] = [];
  for (let start = 0; start < tokens.length;) {
    const end = tokens.indexOf(EOS, start);
    assert.ok(end >= 0, "the last document has no separator");
    documents.push(tokenizer.decode(tokens.slice(start, end)));
    start = end + 1;
  }
  return documents;
}

function bytesIn(folder: string): Record<string, Uint8Array> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return Object.fromEntries(names.map((name) => [name, Deno.readFileSync(join(folder, name))]));
}

Deno.test("chunks together are the documents in order, each with one separator, and nothing else", () =>
  inTempFolder(async (root) => {
    const files = texts(50);
    writeFiles(root, files);
    const { manifest, skipped } = await prepare(optionsFor(root));
    assert.deepEqual(skipped, []);
    assert.deepEqual(manifest.sources.map(({ name }) => name), ["code", "prose"]);
    for (const { name, train, validation } of manifest.sources) {
      const extension = name === "code" ? ".ts" : ".md";
      const wanted = Object.entries(files).filter(([path]) => path.endsWith(extension));
      const held = new Set(documentsIn(tokensIn(root, validation)));
      assert.ok(held.size > 0);
      const trained = wanted.map(([, text]) => text).filter((text) => !held.has(text));
      assert.deepEqual(documentsIn(tokensIn(root, train)), trained);
      assert.equal(trained.length + held.size, wanted.length);
      const expected = trained.flatMap((text) => [...tokenizer.encode(text, { addEos: true })]);
      assert.deepEqual(tokensIn(root, train), expected);
      assert.ok(train.files.slice(0, -1).every(({ tokens }) => tokens === 100));
      assert.equal(train.files.at(-1)?.tokens, expected.length % 100 || 100);
    }
  }));

Deno.test("separators are as many as documents, ids are below the vocabulary, no chunk is padded", () =>
  inTempFolder(async (root) => {
    writeFiles(root, texts(30));
    writeFiles(root, { "texts/special.md": "a </s> b <s> <unk>\n</s></s>" });
    const { manifest } = await prepare(optionsFor(root, { validationShare: 0.3 }));
    for (const split of manifest.sources.flatMap(({ train, validation }) => [train, validation])) {
      const tokens = tokensIn(root, split);
      assert.equal(tokens.length, split.tokens);
      assert.equal(tokens.filter((id) => id === EOS).length, split.documents);
      assert.ok(tokens.every((id) => id > 2 || id === EOS), "a special token in running text");
      assert.ok(tokens.every((id, i) => id !== EOS || tokens[i + 1] !== EOS), "two in a row");
    }
  }));

Deno.test("the last partial chunk of a source is kept, even when it is the only one", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { "texts/a.md": "Hello world" });
    const { manifest } = await prepare(optionsFor(root, { validationShare: 0 }));
    const [{ train, validation }] = manifest.sources;
    assert.deepEqual(tokensIn(root, train), [15043, 3186, EOS]);
    assert.deepEqual(validation, { documents: 0, tokens: 0, bytes: 0, files: [] });
  }));

Deno.test("the same texts give the same bytes, and the manifest says where they are from", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { ...texts(20), "texts/x.png": "no text", "texts/.hidden": "" });
    await prepare(optionsFor(root));
    await prepare(optionsFor(root, { output: join(root, "again") }));
    assert.deepEqual(bytesIn(join(root, "again")), bytesIn(join(root, "out")));
    const manifest = readManifest(join(root, "out"));
    assert.deepEqual(manifest.tokenizer, {
      name: "llama",
      sha256: tokenizer.fingerprint(),
      vocab_size: 32000,
      eos_id: EOS,
    });
    assert.deepEqual(manifest.skipped, { hidden: 1, "neither prose nor code by its name": 1 });
    const saved = await loadTokenizer(join(root, "out"));
    assert.equal(saved.fingerprint(), tokenizer.fingerprint());
  }));

Deno.test("large vocabularies are written in four bytes a token", () =>
  inTempFolder(async (root) => {
    const { vocabulary } = tokenizer;
    const unused = Array.from({ length: 40_000 }, (_, i) => `unused ${i}`);
    const large = new Tokenizer({
      ...vocabulary,
      pieces: [...vocabulary.pieces, ...unused],
      kinds: [...vocabulary.kinds, ...unused.map(() => "unused" as const)],
    });
    writeFiles(root, { "texts/a.md": "Hello world" });
    const { manifest } = await prepare(
      optionsFor(root, { tokenizer: large, validationShare: 0 }),
    );
    assert.equal(manifest.dtype, "i32");
    const [{ train }] = manifest.sources;
    assert.equal(Deno.statSync(join(root, "out", train.files[0].name)).size, 24 + 3 * 4);
    assert.deepEqual(tokensIn(root, train), [15043, 3186, EOS]);
  }));

Deno.test("a folder with prepared data is replaced only by force, one with anything else never", () =>
  inTempFolder(async (root) => {
    writeFiles(root, texts(5));
    const options = optionsFor(root);
    await prepare(options);
    await assert.rejects(
      prepare(options),
      new UsageError(
        `Cannot prepare into "${options.output}": it holds prepared data; replace it with --force, ` +
          "or choose another folder",
      ),
    );
    Deno.removeSync(join(root, "texts"), { recursive: true });
    writeFiles(root, { "texts/a.md": "Hello world" });
    const { manifest } = await prepare({ ...options, force: true, validationShare: 0 });
    assert.equal(manifest.sources[0].train.tokens, 3);
    writeFiles(root, { "other/thesis.tex": "the only copy" });
    await assert.rejects(
      prepare({ ...options, force: true, output: join(root, "other") }),
      /it holds something else \("thesis\.tex"\)/,
    );
    assert.equal(Deno.readTextFileSync(join(root, "other/thesis.tex")), "the only copy");
  }));

Deno.test("an interrupted preparation leaves nothing, and what was there stays", () =>
  inTempFolder(async (root) => {
    writeFiles(root, texts(200));
    const options = optionsFor(root, { chunkTokens: 1000 });
    await prepare(options);
    const before = bytesIn(options.output);
    const stop = new AbortController();
    const reason = new TinyllamaError("Interrupted");
    const interrupted = prepare({
      ...options,
      force: true,
      signal: stop.signal,
      onProgress: ({ phase }) => {
        if (phase !== "tokenizing") return;
        stop.abort(reason);
        // The work looks at the signal every 50 ms.
        const until = performance.now() + 3;
        while (performance.now() < until);
      },
    });
    await assert.rejects(interrupted, reason);
    assert.deepEqual([...Deno.readDirSync(root)].map(({ name }) => name).sort(), ["out", "texts"]);
    assert.deepEqual(bytesIn(options.output), before);
  }));

Deno.test("what another process left unfinished is cleared away", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { ...texts(5), "out.unfinished/train_prose_0000000007.bin": "half" });
    await prepare(optionsFor(root));
    assert.deepEqual([...Deno.readDirSync(root)].map(({ name }) => name).sort(), ["out", "texts"]);
    assert.ok(!Object.keys(bytesIn(join(root, "out"))).includes("train_prose_0000000007.bin"));
  }));

Deno.test("wrong options and texts that are none are refused before anything is written", () =>
  inTempFolder(async (root) => {
    writeFiles(root, { "texts/a.png": "a", "texts/b.md": "" });
    const refused = (more: Partial<PrepareOptions>, message: RegExp) =>
      assert.rejects(prepare(optionsFor(root, more)), (error) => {
        assert.ok(error instanceof UsageError, String(error));
        assert.match(error.message, message);
        return true;
      });
    await refused(
      {},
      /found no text, only\n.*a\.png: neither prose nor code.*\n.*b\.md: empty$/,
    );
    await refused({ paths: [] }, /no texts: expected files or folders/);
    await refused({ chunkTokens: 0 }, /0 tokens a chunk file: expected a whole number/);
    await refused({ chunkTokens: 1.5 }, /1\.5 tokens a chunk file/);
    await refused({ validationShare: 0.6 }, /share of 0\.6: expected a number from 0 to 0\.5/);
    await refused({ validationShare: NaN }, /share of NaN/);
    const named = (source: string) => ({ paths: [{ path: root, source }] });
    await refused(named("a/b"), /a source called "a\/b": expected letters, digits, - and _/);
    await refused(named(""), /a source called ""/);
    assert.deepEqual([...Deno.readDirSync(root)].map(({ name }) => name), ["texts"]);
  }));

Deno.test("the audit finds a changed token, a lost file and separators that do not match", () =>
  inTempFolder(async (root) => {
    writeFiles(root, texts(10));
    const output = join(root, "out");
    const { manifest } = await prepare(optionsFor(root));
    await auditData(output, manifest, noPause);
    const [first] = manifest.sources;
    const changed = (train: Partial<ManifestSplit>): Manifest => ({
      ...manifest,
      sources: [{ ...first, train: { ...first.train, ...train } }],
    });
    const { documents } = first.train;
    await assert.rejects(
      auditData(output, changed({ documents: documents + 1 }), noPause),
      (error) => {
        assert.ok(error instanceof FormatError);
        assert.match(error.message, new RegExp(`has ${documents} end-of-sequence tokens`));
        assert.match(error.message, new RegExp(`expected ${documents + 1} of them`));
        return true;
      },
    );
    await assert.rejects(
      auditData(output, changed({ files: first.train.files.slice(0, -1) }), noPause),
      /end-of-sequence tokens/,
    );
    const path = join(output, first.train.files[0].name);
    const bytes = Deno.readFileSync(path);
    bytes[30] ^= 1;
    Deno.writeFileSync(path, bytes);
    await assert.rejects(auditData(output, manifest, noPause), /it is damaged: its sha256 is/);
  }));

Deno.test("a manifest of before there was adopted data is read as one of prepared data", () =>
  inTempFolder(async (root) => {
    writeFiles(root, texts(5));
    const { manifest } = await prepare(optionsFor(root));
    assert.equal(manifest.origin, "prepared");
    const path = join(root, "out/manifest.json");
    const text = Deno.readTextFileSync(path);
    Deno.writeTextFileSync(path, text.replace(/ *"origin": "prepared",\n/, ""));
    assert.notEqual(Deno.readTextFileSync(path), text);
    assert.deepEqual(readManifest(join(root, "out")), manifest);
  }));

Deno.test("a manifest that is damaged or leads out of its folder is refused", () =>
  inTempFolder(async (root) => {
    writeFiles(root, texts(5));
    const output = join(root, "out");
    await prepare(optionsFor(root));
    const path = join(output, "manifest.json");
    const text = Deno.readTextFileSync(path);
    const refused = (from: string | RegExp, to: string, message: RegExp) => {
      const changed = text.replace(from, to);
      assert.notEqual(changed, text);
      Deno.writeTextFileSync(path, changed);
      assert.throws(() => readManifest(output), (error) => {
        assert.ok(error instanceof FormatError, String(error));
        assert.match(error.message, message);
        return true;
      });
    };
    refused("{", "", /is not valid JSON/);
    refused("tinyllama packed tokens", "something", /"format"/);
    refused('"version": 1', '"version": 2', /"version"/);
    refused(
      "train_code_0000000000.bin",
      "../../etc/passwd.bin",
      /files\.0\.name": expected the name/,
    );
    refused(
      /"tokens": \d+/,
      '"tokens": 1',
      /the files of source "code" have \d+ tokens, expected 1/,
    );
    refused('"name": "prose"', '"name": "code"', /source "code" is twice/);
    refused('"dtype"', '"dtype": "u16", "color"', /Unrecognized key/);
    const endless = Array.from({ length: 1 << 16 }, (_, i) => `"key${i}": 1, `).join("");
    refused(
      "{",
      `{${endless}`,
      /^.*manifest.json": "": Unrecognized keys: "key0", .{100,200}\.\.\.$/,
    );
    refused('"skipped": {', `"skipped": {"${"x".repeat(1 << 20)}": -1`, /"skipped\.x{69}\.\.\.": /);
    Deno.removeSync(path);
    assert.throws(
      () => readManifest(output),
      new FormatError(
        `Cannot open the data in "${output}": there is no manifest.json; make it for the 7 chunk ` +
          `files there with: tinyllama adopt ${output}`,
      ),
    );
  }));
