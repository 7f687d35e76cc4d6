// Chunk files of another program, written here byte by byte: the order of their tokens, what is counted in them, what is
// left out and what is refused. No test may find a chunk file changed.

import assert from "node:assert/strict";
import { join } from "node:path";
import { FormatError, TinyllamaError, UsageError } from "../../lib/core/errors.ts";
import { adopt, type AdoptOptions } from "../../lib/data/adopt.ts";
import { auditData } from "../../lib/data/audit.ts";
import { type ManifestSplit, partsOf, readManifest } from "../../lib/data/manifest.ts";
import { prepare } from "../../lib/data/prepare.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { loadTokenizer, saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import { inTempFolder } from "../temp_folder.ts";
import { foreignChunk, tokensOf, writeFiles } from "./data_setup.ts";

const BOS = 1, EOS = 2;
const tokenizer = await llamaTokenizer();
const noPause = () => Promise.resolve();

/** `count` ids from `first` on; every tenth place ends a document. */
function stream(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (first + i) % 10 === 9 ? EOS : 100 + first + i);
}

/** Runs `body` on a folder with these chunk files, and checks that they stay as they are. */
async function withChunks(
  files: Readonly<Record<string, Uint8Array>>,
  body: (folder: string) => Promise<void>,
): Promise<void> {
  await inTempFolder(async (root) => {
    const folder = join(root, "slim");
    writeFiles(folder, files);
    const times = Object.keys(files).map((name) => Deno.statSync(join(folder, name)).mtime);
    await body(folder);
    for (const [name, bytes] of Object.entries(files)) {
      assert.deepEqual(Deno.readFileSync(join(folder, name)), bytes);
    }
    assert.deepEqual(
      Object.keys(files).map((name) => Deno.statSync(join(folder, name)).mtime),
      times,
    );
  });
}

function adoptIn(folder: string, more: Partial<AdoptOptions> = {}) {
  return adopt({ folder, tokenizer: null, ...more });
}

function tokensIn(folder: string, split: ManifestSplit): number[] {
  return tokensOf(partsOf(folder, split));
}

function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** Refuses to adopt `folder`, which then holds nothing new. */
async function refused(
  folder: string,
  kind: typeof UsageError | typeof FormatError,
  message: RegExp,
  more: Partial<AdoptOptions> = {},
): Promise<void> {
  const before = namesIn(folder);
  await assert.rejects(adoptIn(folder, more), (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.match(error.message, message);
    return true;
  });
  assert.deepEqual(namesIn(folder), before);
}

Deno.test("processes and numbers are put in order, parts and sources apart", () =>
  withChunks({
    "train_slimpajama_10_0000000000.bin": foreignChunk(stream(600, 50), 8),
    "train_slimpajama_2_0000000001.bin": foreignChunk(stream(350, 50), 8),
    "train_slimpajama_2_0000000000.bin": foreignChunk(stream(300, 50), 8),
    "train_slimpajama_0_0000000000.bin": foreignChunk(stream(0, 40), 8),
    "train_starcoder_3_0000000000.bin": foreignChunk(stream(5000, 25), 8),
    "validation_slimpajama_1_0000000000.bin": foreignChunk(stream(9000, 30), 8),
  }, async (folder) => {
    const { manifest, skipped, notes } = await adoptIn(folder);
    assert.deepEqual(skipped, []);
    assert.deepEqual(notes, []);
    assert.deepEqual(readManifest(folder), manifest);
    assert.equal(manifest.origin, "adopted");
    assert.equal(manifest.dtype, "u16");
    const [slimpajama, starcoder] = manifest.sources;
    assert.deepEqual([slimpajama.name, starcoder.name], ["slimpajama", "starcoder"]);
    assert.deepEqual(
      tokensIn(folder, slimpajama.train),
      [...stream(0, 40), ...stream(300, 100), ...stream(600, 50)],
    );
    assert.equal(slimpajama.train.documents, 19);
    assert.equal(slimpajama.train.bytes, null);
    assert.deepEqual(tokensIn(folder, slimpajama.validation), stream(9000, 30));
    // The last document was cut off, as the original does.
    assert.deepEqual(tokensIn(folder, starcoder.train), stream(5000, 25));
    assert.equal(starcoder.train.documents, 2);
    assert.deepEqual(starcoder.validation, { documents: 0, tokens: 0, bytes: null, files: [] });
    await auditData(folder, manifest, noPause);
    const saved = await loadTokenizer(folder);
    assert.equal(saved.fingerprint(), manifest.tokenizer.sha256);
    assert.equal(saved.fingerprint(), tokenizer.fingerprint());
  }));

Deno.test("files of four bytes a token, without process and part, as the original's ancestor names them", () =>
  withChunks({
    "arxiv_0000000000.bin": foreignChunk(stream(0, 30), 4),
    "arxiv_0000000001.bin": foreignChunk(stream(30, 30), 4),
    "cc_2019-30_sample_0000000000.bin": foreignChunk(stream(70, 20), 4),
  }, async (folder) => {
    const { manifest } = await adoptIn(folder);
    assert.equal(manifest.dtype, "i32");
    assert.deepEqual(
      manifest.sources.map(({ name, train }) => [name, train.tokens]),
      [["arxiv", 60], ["cc_2019-30_sample", 20]],
    );
    assert.deepEqual(tokensIn(folder, manifest.sources[0].train), stream(0, 60));
    await auditData(folder, manifest, noPause);
  }));

Deno.test("the audit of adopted data finds a changed token", () =>
  inTempFolder(async (folder) => {
    writeFiles(folder, { "train_a_0_0000000000.bin": foreignChunk(stream(0, 25), 8) });
    const { manifest } = await adoptIn(folder);
    writeFiles(folder, { "train_a_0_0000000000.bin": foreignChunk(stream(1, 25), 8) });
    await assert.rejects(auditData(folder, manifest, noPause), /it is damaged: its sha256 is/);
  }));

Deno.test("padding with separators is left out and told, single separators are text", () =>
  withChunks({
    "train_a_0_0000000000.bin": foreignChunk([...stream(0, 20), ...new Array(30).fill(BOS)], 8),
    "train_a_1_0000000000.bin": foreignChunk([...stream(20, 18), BOS], 8),
    "train_b_0_0000000000.bin": foreignChunk([...stream(0, 20), ...new Array(7).fill(EOS)], 8),
  }, async (folder) => {
    const { manifest, notes } = await adoptIn(folder);
    const [a, b] = manifest.sources;
    assert.deepEqual(tokensIn(folder, a.train), [...stream(0, 20), BOS, ...stream(20, 18), BOS]);
    assert.deepEqual(a.train.files.map(({ padding }) => padding), [29, undefined]);
    assert.equal(a.train.documents, 3);
    assert.deepEqual(tokensIn(folder, b.train), stream(0, 20));
    assert.equal(b.train.documents, 2);
    assert.deepEqual(notes, [
      "a, training: 29 tokens of padding are not used",
      "b, training: 7 tokens of padding are not used",
    ]);
    assert.deepEqual(readManifest(folder), manifest);
    await auditData(folder, manifest, noPause);
  }));

Deno.test("lost files and documents without an end are told", () =>
  withChunks({
    "train_a_0_0000000000.bin": foreignChunk([BOS, 7, 8, BOS, 9], 8),
    "train_a_0_0000000003.bin": foreignChunk([10, 11, 12, BOS, 13], 8),
  }, async (folder) => {
    const { notes } = await adoptIn(folder);
    assert.deepEqual(notes, [
      "train_a_0: 2 of its numbers have no chunk file",
      "a, training: no end-of-sequence token (id 2) ends its documents, and 3 begin-of-sequence " +
      "tokens (id 1) begin some; a model learns no end from it",
    ]);
  }));

Deno.test("files that are no chunk files, of the test part or empty are left out with the reason", () =>
  withChunks({
    "train_a_0_0000000000.bin": foreignChunk(stream(0, 20), 8),
    "train_a_1_0000000000.bin": foreignChunk([], 8),
    "train_a_1_0000000001.bin": foreignChunk(stream(0, 20), 8),
    "train_a_1_0000000003.bin": foreignChunk(stream(0, 20), 8),
    "test_a_0_0000000001.bin": foreignChunk(stream(0, 20), 8),
    "train_a_0_1.bin": foreignChunk(stream(0, 20), 8),
    "pytorch_model.bin": new Uint8Array(3),
    "README.md": new Uint8Array(3),
  }, async (folder) => {
    const { manifest, skipped, notes } = await adoptIn(folder);
    assert.deepEqual(notes, ["train_a_1: 1 of its numbers has no chunk file"]);
    assert.deepEqual(
      skipped.map(({ path, reason }) => [path.slice(folder.length + 1), reason]),
      [
        ["pytorch_model.bin", "not named as a chunk file"],
        ["test_a_0_0000000001.bin", "of the test part"],
        ["train_a_0_1.bin", "not named as a chunk file"],
        ["train_a_1_0000000000.bin", "without tokens"],
      ],
    );
    assert.deepEqual(manifest.skipped, {
      "not named as a chunk file": 2,
      "of the test part": 1,
      "without tokens": 1,
    });
    assert.deepEqual(manifest.sources[0].train.files.map(({ name }) => name), [
      "train_a_0_0000000000.bin",
      "train_a_1_0000000001.bin",
      "train_a_1_0000000003.bin",
    ]);
  }));

Deno.test("damaged chunk files are refused by name", async () => {
  const whole = foreignChunk(stream(0, 20), 8);
  const good = { "train_a_0_0000000000.bin": whole };
  const bad = "train_a_1_0000000000.bin";
  const cases: [Uint8Array, RegExp][] = [
    [whole.subarray(0, 50), /train_a_1_0000000000\.bin": it has 50 bytes, expected 64 .*cut off/],
    [whole.subarray(0, 10), /train_a_1_0000000000\.bin": it has 10 bytes, expected a LITPKDS/],
    [new Uint8Array(64), /train_a_1_0000000000\.bin": it begins with .*, expected "LITPKDS"/],
    [
      foreignChunk([5, 6, 32000, 7], 8),
      /train_a_1_0000000000\.bin": token 2 is 32000, expected an id from 0 to 31999/,
    ],
    [
      foreignChunk([5, 6, 7], 4),
      /"train_a_0_0000000000\.bin" has tokens of u16, "train_a_1_0000000000\.bin" of i32/,
    ],
  ];
  for (const [bytes, message] of cases) {
    await withChunks({ ...good, [bad]: bytes }, (folder) => refused(folder, FormatError, message));
  }
});

Deno.test("folders with nothing to train on are refused", async () => {
  const chunk = foreignChunk(stream(0, 20), 8);
  await withChunks({}, (folder) => {
    Deno.mkdirSync(folder);
    return refused(folder, UsageError, /expected chunk files such as .*, found no files$/);
  });
  await withChunks(
    { "a.md": chunk },
    (folder) => refused(folder, UsageError, /expected chunk files such as .*, found only a\.md$/),
  );
  await withChunks(
    { "test_a_0_0000000000.bin": chunk },
    (folder) => refused(folder, UsageError, /its chunk files hold nothing to train on/),
  );
  await withChunks(
    { "validation_a_0_0000000000.bin": chunk },
    (folder) =>
      refused(folder, UsageError, /source "a" has validation files only, such as "validation_a_0/),
  );
  await withChunks(
    { "train_a_0_0000000000.bin": chunk, "manifest.json": chunk },
    (folder) => refused(folder, UsageError, /it has a manifest\.json already/),
  );
});

Deno.test("the tokenizer beside the chunk files is the one, another is refused", () =>
  withChunks({ "train_a_0_0000000000.bin": foreignChunk(stream(0, 20), 8) }, async (folder) => {
    await saveTokenizer(tokenizer, folder, { addBos: true, modelMaxLength: 77 });
    const path = join(folder, "tokenizer.json");
    const json = Deno.readTextFileSync(path);
    const other = join(folder, "other");
    writeFiles(other, { "tokenizer.json": json.replace('"给"', '"☃"') });
    await refused(folder, UsageError, /beside the chunk files is another/, { tokenizer: other });
    const { manifest } = await adoptIn(folder);
    assert.equal(manifest.tokenizer.name, folder);
    assert.equal(Deno.readTextFileSync(path), json);
    Deno.removeSync(join(folder, "manifest.json"));
    const named = await adoptIn(folder, { tokenizer: folder });
    assert.deepEqual(named.manifest, manifest);
  }));

Deno.test("an interrupted adoption leaves nothing behind", () => {
  const names = Array.from({ length: 40 }, (_, i) => `train_a_${i}_0000000000.bin`);
  const chunk = foreignChunk(stream(0, 1000), 8);
  return withChunks(Object.fromEntries(names.map((name) => [name, chunk])), async (folder) => {
    const stop = new AbortController();
    const reason = new TinyllamaError("Interrupted");
    const interrupted = adoptIn(folder, {
      signal: stop.signal,
      onProgress: () => {
        stop.abort(reason);
        // The work looks at the signal every 50 ms.
        const until = performance.now() + 5;
        while (performance.now() < until);
      },
    });
    await assert.rejects(interrupted, reason);
    assert.deepEqual(namesIn(folder), [...names].sort());
  });
});

Deno.test("prepare never replaces adopted data, not even by force", () =>
  withChunks({ "train_a_0_0000000000.bin": foreignChunk(stream(0, 20), 8) }, async (folder) => {
    await adoptIn(folder);
    writeFiles(join(folder, ".."), { "texts/a.md": "Hello world" });
    const preparing = prepare({
      paths: [{ path: join(folder, "../texts"), source: null }],
      output: folder,
      force: true,
      tokenizer,
      tokenizerName: "llama",
      chunkTokens: 100,
      validationShare: 0,
    });
    await assert.rejects(preparing, /it holds chunk files of another program; choose a new folder/);
  }));
