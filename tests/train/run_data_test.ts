// The data of a run as the trainer gets it, and every way in which a folder may not fit a run.

import assert from "node:assert/strict";
import { join } from "node:path";
import { FormatError, UsageError } from "../../lib/core/errors.ts";
import { readManifest } from "../../lib/data/manifest.ts";
import { prepare } from "../../lib/data/prepare.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import type { RunConfig } from "../../lib/train/config.ts";
import { openRunData } from "../../lib/train/run_data.ts";
import { prose, writeFiles } from "../data/data_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { SMALL_RUN } from "./training_setup.ts";

const tokenizer = await llamaTokenizer();

/** Runs `body` with a configuration that fits freshly prepared data in its folder. */
async function withData(
  body: (config: RunConfig, folder: string) => Promise<void>,
  validationShare = 0.05,
) {
  await inTempFolder(async (root) => {
    writeFiles(root, {
      "texts/a.md": prose(4000, 1),
      "texts/b.md": prose(3000, 2),
      "texts/c.ts": prose(2000, 3),
    });
    const folder = join(root, "data");
    await prepare({
      paths: [{ path: join(root, "texts"), source: null }],
      output: folder,
      force: false,
      tokenizer,
      tokenizerName: "llama",
      chunkTokens: 500,
      validationShare,
    });
    const model = { ...SMALL_RUN.model, vocabSize: 32000 };
    await body({ ...SMALL_RUN, model, data: { ...SMALL_RUN.data, path: folder } }, folder);
  });
}

const refused = (config: RunConfig, expected: Error) =>
  assert.rejects(openRunData(config), expected);

Deno.test("samples and held-out text of all sources, and the tokenizer for checkpoints", () =>
  withData(async (config, folder) => {
    const weights = { prose: 0.7, code: 0.3 };
    using opened = await openRunData({ ...config, data: { ...config.data, weights } });
    const { samples, heldOut } = opened.data;
    const inputs = new Int32Array(160), targets = new Int32Array(160);
    samples.batch(0, 10, inputs, targets);
    assert.ok(inputs.every((id) => id >= 2 && id < 32000));
    assert.deepEqual(inputs.subarray(1, 16), targets.subarray(0, 15));
    const sources = Array.from({ length: 10 }, (_, i) => samples.describe(i).split('"')[1]);
    assert.equal(sources.filter((name) => name === "prose").length, 7);
    const manifest = readManifest(folder);
    for (const { name, validation } of manifest.sources) {
      const source = heldOut.find((one) => one.name === name);
      let count = 0;
      for (const batch of source?.batches(2) ?? []) {
        count += batch.targets.filter((target) => target >= 0).length;
      }
      assert.equal(count, validation.tokens - 1);
      assert.ok(count > 0);
    }
    const checkpoint = join(folder, "checkpoint");
    Deno.mkdirSync(checkpoint);
    await opened.saveTokenizer(checkpoint);
    const saved = await loadTokenizer(checkpoint);
    assert.equal(saved.fingerprint(), tokenizer.fingerprint());
    assert.equal(saved.vocabulary.addsBos, false);
  }));

Deno.test("the fingerprint is that of the training text, wherever it lies", () =>
  withData(async (config, folder) => {
    const fingerprintOf = async (path: string) => {
      using opened = await openRunData({ ...config, data: { ...config.data, path } });
      return opened.data.fingerprint;
    };
    const first = await fingerprintOf(folder);
    Deno.renameSync(folder, `${folder}2`);
    assert.equal(await fingerprintOf(`${folder}2`), first);
    await withData(async (_, same) => assert.equal(await fingerprintOf(same), first));
    await withData(async (_, other) => assert.notEqual(await fingerprintOf(other), first), 0.3);
  }));

Deno.test("data of which nothing is held out has no source to validate", () =>
  withData(async (config) => {
    using opened = await openRunData(config);
    assert.deepEqual(opened.data.heldOut, []);
  }, 0));

Deno.test("without weights a source counts by its tokens", () =>
  withData(async (config, folder) => {
    using opened = await openRunData(config);
    const { sources } = readManifest(folder);
    const total = sources.reduce((sum, { train }) => sum + train.tokens, 0);
    const counts: Record<string, number> = {};
    for (let i = 0; i < 1000; i++) {
      const name = opened.data.samples.describe(i).split('"')[1];
      counts[name] = (counts[name] ?? 0) + 1;
    }
    for (const { name, train } of sources) {
      assert.ok(Math.abs(counts[name] - 1000 * train.tokens / total) < 1, name);
    }
  }));

Deno.test("a folder that was not prepared says how to prepare it", () =>
  withData((config) =>
    refused(
      { ...config, data: { ...config.data, path: "data/none" } },
      new FormatError(
        'Cannot open the data in "data/none": there is no manifest.json; make it with: ' +
          "tinyllama prepare TEXTS --output data/none",
      ),
    )
  ));

Deno.test("a model that does not fit the tokenizer is refused; a larger vocabulary fits", () =>
  withData(async (config, folder) => {
    const model = (changes: Partial<RunConfig["model"]>) => ({
      ...config,
      model: { ...config.model, ...changes },
    });
    await refused(
      model({ vocabSize: 31999 }),
      new UsageError(
        `Cannot train on "${folder}": model.vocab_size is 31999, expected at least the 32000 of its ` +
          'tokenizer "llama"',
      ),
    );
    await refused(
      model({ eosIds: [0, 5] }),
      new UsageError(
        `Cannot train on "${folder}": model.eos_token_id is 0, 5, expected 2, which ends its ` +
          "documents",
      ),
    );
    (await openRunData(model({ vocabSize: 32064 })))[Symbol.dispose]();
  }));

Deno.test("weights that do not fit and too little text are refused with the source's name", () =>
  withData(async (config) => {
    const data = (changes: Partial<RunConfig["data"]>) => ({
      ...config,
      data: { ...config.data, ...changes },
    });
    await assert.rejects(
      openRunData(data({ weights: { prose: 1, math: 1 } })),
      /no source "math", and there is no weight for source "code"/,
    );
    await assert.rejects(
      openRunData(data({ sequenceLength: 2048 })),
      /Cannot train on source "code": it has \d+ tokens, expected at least 2049/,
    );
  }));

Deno.test("files that are missing, cut off or of another tokenizer are found before the run begins", () =>
  withData(async (config, folder) => {
    const path = join(folder, "train_prose_0000000001.bin");
    Deno.truncateSync(path, 1000);
    await refused(
      config,
      new FormatError(
        `Cannot open the data in "${folder}": "train_prose_0000000001.bin" has 1000 bytes, ` +
          "expected 1024",
      ),
    );
    Deno.removeSync(path);
    await refused(
      config,
      new FormatError(
        `Cannot open the data in "${folder}": "train_prose_0000000001.bin" is missing`,
      ),
    );
    const manifest = join(folder, "manifest.json");
    const text = Deno.readTextFileSync(manifest);
    Deno.writeTextFileSync(manifest, text.replace(tokenizer.fingerprint(), "0".repeat(64)));
    await refused(
      config,
      new FormatError(
        `Cannot open the data in "${folder}": its tokens were made with the tokenizer "llama", the ` +
          "one that lies beside them is another",
      ),
    );
  }));
