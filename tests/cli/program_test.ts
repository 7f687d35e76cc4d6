// The program as a process: exit codes, and what bad input says. No message may come with a stack trace.

import assert from "node:assert/strict";
import { join } from "node:path";
import { writeTextModel } from "../generate/generating_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { spawn, tinyllama } from "./command_line.ts";

const ROOT = new URL("../../", import.meta.url);

async function expectError(args: readonly string[], code: number, message: RegExp): Promise<void> {
  const outcome = await tinyllama(args);
  assert.equal(outcome.code, code, outcome.error);
  assert.match(outcome.error, message);
  assert.equal(outcome.text, "");
  assert.doesNotMatch(outcome.error, /^\s+at .*:\d+:\d+\)?$/m, "a stack trace");
}

Deno.test("help and version are results, no command and a wrong one are wrong usage", async () => {
  const [help, version, nothing] = await Promise.all([
    tinyllama(["--help"]),
    tinyllama(["--version"]),
    tinyllama([]),
  ]);
  assert.equal(help.code, 0);
  for (const name of ["prepare", "adopt", "pretrain", "generate", "tokenize", "doctor", "demo"]) {
    assert.match(help.text, new RegExp(`^ {2}${name} `, "m"));
  }
  assert.match(version.text, /^\d+\.\d+\.\d+\n$/);
  assert.equal(nothing.code, 2);
  await expectError(
    ["generat"],
    2,
    /^error: unknown command 'generat'\n\(Did you mean generate\?\)/,
  );
  await expectError(
    ["generate"],
    2,
    /required option '--model <folder>' not specified\nsee: tinyllama generate --help\n$/,
  );
  const ending =
    /tried:\n {2}configs\/train\/deno\.json\.yaml\nThe name of a file ends in \.yaml\./;
  await expectError(["pretrain", "--config", "deno.json"], 2, ending);
});

Deno.test("every command has help with examples", async () => {
  const names = ["prepare", "adopt", "pretrain", "generate", "tokenize", "doctor", "demo"];
  await Promise.all(names.map(async (name) => {
    const { code, text } = await tinyllama([name, "--help"]);
    assert.equal(code, 0);
    assert.match(
      text,
      new RegExp(`Usage: tinyllama ${name}[^]*Examples:\n  (echo .*)?tinyllama ${name}`),
    );
  }));
});

Deno.test("a reader that goes away is no defect", async () => {
  for (const args of [["--help"], ["--config", "demo", "--dry-run"]]) {
    await using child = spawn(["pretrain", ...args]);
    await child.stdout.cancel();
    assert.equal(await new Response(child.stderr).text(), "");
  }
});

Deno.test("mistakes in a configuration: file, line and key", () =>
  inTempFolder(async (folder) => {
    const path = join(folder, "run.yaml");
    const demo = Deno.readTextFileSync(new URL("configs/train/demo.yaml", ROOT));
    Deno.writeTextFileSync(path, demo.replace("  lr: 3.0e-3", "  learning_rate: fast"));
    const line = demo.split("\n").findIndex((text) => text.startsWith("  lr:")) + 1;
    await expectError(
      ["pretrain", "--config", path],
      2,
      new RegExp(
        `run\\.yaml:${line}:3: unknown key "optimizer\\.learning_rate", did you mean "optimizer\\.lr"`,
      ),
    );
    await expectError(
      ["pretrain", "--config", "demo", "--set", "optimizer.lr=fast"],
      2,
      /--set optimizer\.lr=fast: "optimizer\.lr" is "fast", expected a positive number/,
    );
    await expectError(
      ["pretrain", "--config", "demo", "--device", "tpu"],
      2,
      /--device tpu: .*tpu/,
    );
  }));

Deno.test("a folder that is no Llama, damaged weights, a prompt too long, no such device", () =>
  inTempFolder(async (folder) => {
    const generate = (...more: string[]) => ["generate", "hello", "--model", folder, ...more];
    await writeTextModel(folder, { addBos: false, eosIds: [2] });
    const config = join(folder, "config.json"), weights = join(folder, "model.safetensors");
    const goodConfig = Deno.readTextFileSync(config), goodWeights = Deno.readFileSync(weights);

    await expectError(
      generate("--device", "tpu"),
      2,
      /Cannot use device "tpu": this build has auto/,
    );
    const long = "word ".repeat(400);
    await expectError(
      ["generate", long, "--model", folder],
      2,
      /\d{3} tokens.*64/,
    );
    Deno.writeTextFileSync(config, goodConfig.replace('"llama"', '"gpt2"'));
    await expectError(generate(), 1, /config\.json": "model_type" is "gpt2", expected "llama"/);
    Deno.writeTextFileSync(config, goodConfig);

    Deno.writeFileSync(weights, goodWeights.subarray(0, goodWeights.length - 100));
    await expectError(generate(), 1, /model\.safetensors/);
    const hostile = goodWeights.slice();
    new DataView(hostile.buffer).setBigUint64(0, 2n ** 60n, true);
    Deno.writeFileSync(weights, hostile);
    await expectError(generate(), 1, /model\.safetensors.*1152921504606846976/);
  }));
