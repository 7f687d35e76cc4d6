// `tinyllama adopt` as a user runs it: from chunk files of the original to a trained model, with what it says on the way.

import assert from "node:assert/strict";
import { join } from "node:path";
import { foreignChunk, writeFiles } from "../data/data_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { tinyllama } from "./command_line.ts";

const run = (folder: string, ...args: readonly string[]) => tinyllama(args, { folder });

/** `count` ids, every sixteenth an end of sequence. */
function ids(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i % 16 === 15 ? 2 : 3 + i * 7 % 500);
}

/** A model of some thousand parameters besides its embeddings, for three steps. */
const SMALL = [
  "model.hidden_size=16",
  "model.intermediate_size=32",
  "model.num_hidden_layers=1",
  "model.num_attention_heads=2",
  "model.num_key_value_heads=1",
  "model.head_dim=8",
  "data.sequence_length=32",
  "micro_batch_size=2",
  "batch_tokens=64",
  "horizon.steps=3",
  "optimizer.warmup_steps=1",
];

Deno.test("chunk files of the original: refused, adopted, verified, trained on", () =>
  inTempFolder(async (folder) => {
    writeFiles(join(folder, "slim"), {
      "train_slimpajama_1_0000000000.bin": foreignChunk(ids(640), 8),
      "train_slimpajama_0_0000000000.bin": foreignChunk([...ids(600), ...new Array(40).fill(1)], 8),
      "train_starcoder_0_0000000000.bin": foreignChunk(ids(640), 8),
      "validation_slimpajama_0_0000000000.bin": foreignChunk(ids(200), 8),
      "other.bin": "no chunk file",
    });
    const sets = [
      ...SMALL,
      "data.path=slim",
      "run.output=run",
      "data.weights={slimpajama: 0.7, starcoder: 0.3}",
    ];
    const train = ["pretrain", "--config", "demo", "--device", "cpu:wasm", "--threads", "1"];
    const flags = sets.flatMap((text) => ["--set", text]);
    const early = await run(folder, ...train, ...flags);
    assert.equal(early.code, 1);
    assert.equal(
      early.error,
      'error: Cannot open the data in "slim": there is no manifest.json; make it for the 4 chunk ' +
        "files there with: tinyllama adopt slim\n",
    );

    const adopted = await run(folder, "adopt", "slim");
    assert.equal(adopted.code, 0, adopted.error);
    assert.match(
      adopted.text,
      /^left out 1: not named as a chunk file: slim\/other\.bin\nsource +part/,
    );
    assert.match(adopted.text, /\nslimpajama +training +77 +1,241 +unknown +2\n/);
    assert.match(adopted.text, /\nslimpajama +validation +12 +200 +unknown +1\n/);
    assert.match(adopted.text, /\nstarcoder +training +40 +640 +unknown +1\n/);
    assert.match(adopted.text, /\nnote: slimpajama, training: 39 tokens of padding are not used\n/);
    assert.match(adopted.text, /\nAdopted slim\n$/);

    const verified = await run(folder, "prepare", "--verify", "--output", "slim");
    assert.equal(verified.code, 0, verified.error);
    assert.match(verified.text, /slim is as its manifest says\n$/);

    const trained = await run(folder, ...train, ...flags);
    assert.equal(trained.code, 0, trained.error);
    const [first, , last] = Deno.readTextFileSync(join(folder, "run/metrics.jsonl")).split("\n");
    assert.ok(JSON.parse(last).loss < JSON.parse(first).loss);
    assert.match(trained.error, /step 3: validation loss {2}slimpajama \d+\.\d+\n/);
    assert.ok(Deno.statSync(join(folder, "run/step-000003/tokenizer.json")).isFile);
  }));

Deno.test("JSON, and wrong usage", () =>
  inTempFolder(async (folder) => {
    writeFiles(join(folder, "a"), { "train_a_0_0000000000.bin": foreignChunk(ids(64), 4) });
    const [json, missing, nothing] = await Promise.all([
      run(folder, "adopt", "a", "--json"),
      run(folder, "adopt", "b"),
      run(folder, "adopt"),
    ]);
    assert.equal(json.code, 0, json.error);
    const { output, manifest, skipped, notes } = JSON.parse(json.text);
    assert.deepEqual([output, skipped, notes], ["a", [], []]);
    assert.deepEqual(
      manifest,
      JSON.parse(Deno.readTextFileSync(join(folder, "a/manifest.json"))),
    );
    assert.equal(missing.code, 2);
    assert.match(missing.error, /Cannot adopt "b": there is no such folder/);
    assert.equal(nothing.code, 2);
    const again = await run(folder, "adopt", "a");
    assert.equal(again.code, 2);
    assert.match(again.error, /it has a manifest\.json already/);
  }));
