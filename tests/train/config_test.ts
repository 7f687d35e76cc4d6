// Run files: what the shipped ones say, and the message for each kind of mistake.

import assert from "node:assert/strict";
import { join } from "node:path";
import { footprintOf } from "../../lib/backend/footprint.ts";
import { UsageError } from "../../lib/core/errors.ts";
import { loadRunConfig } from "../../lib/train/config.ts";
import { planRun } from "../../lib/train/plan.ts";
import { parseOverride } from "../../lib/train/yaml_file.ts";

const ROOT = join(import.meta.dirname ?? ".", "..", "..");
const DEMO = join(ROOT, "configs", "train", "demo.yaml");

function load(path: string, ...sets: string[]) {
  return loadRunConfig(path, sets.map((text) => parseOverride(text)));
}

/** The message of the mistake that loading a file with this text makes. */
function mistake(text: string, ...sets: string[]): string {
  const path = Deno.makeTempFileSync({ suffix: ".yaml" });
  try {
    Deno.writeTextFileSync(path, text);
    load(path, ...sets);
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    return error.message.replaceAll(path, "run.yaml");
  } finally {
    Deno.removeSync(path);
  }
  throw new Error("the configuration was accepted");
}

const demoText = Deno.readTextFileSync(DEMO);
const changed = (from: string, to: string) => {
  assert.ok(demoText.includes(from), `"${from}" is not in the demo`);
  return demoText.replace(from, to);
};
const lineOf = (text: string, part: string) => text.slice(0, text.indexOf(part)).split("\n").length;

Deno.test("the paper's run has every number of section 2.4", () => {
  const { config } = load(join(ROOT, "configs", "train", "tinyllama-1.1b.yaml"));
  assert.deepEqual(config.schedule, {
    lr: 4e-4,
    minLr: 4e-5,
    warmupSteps: 2000,
    totalSteps: 1430512,
  });
  assert.deepEqual(config.adamw, { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 });
  assert.equal(config.gradClip, 1);
  assert.equal(config.batchTokens, 2097152);
  assert.equal(config.microSteps, 128);
  assert.deepEqual(config.data.weights, { slimpajama: 0.7, starcoder: 0.3 });
  const plan = planRun(config, footprintOf("cpu", "f32"));
  assert.equal(plan.parameters, 1100048384);
  assert.equal(plan.flopsPerToken, 6 * 1034420224 + 6 * 22 * 2048 * 2048);
  const bytes = (label: string) => plan.memory.find((line) => line.label === label)?.byteLength;
  for (const label of ["parameters", "gradients", "optimizer m", "optimizer v"]) {
    assert.equal(bytes(label), 4 * 1100048384);
  }
});

Deno.test("the paper's run fits a card of 40 GB with its micro-batch of 8", () => {
  const { config } = load(join(ROOT, "configs", "train", "tinyllama-1.1b.yaml"));
  assert.equal(config.microBatchSize, 8);
  const total = (recompute: typeof config.recompute) =>
    planRun({ ...config, recompute }, footprintOf("cuda", config.precision)).memory
      .reduce((sum, { byteLength }) => sum + byteLength, 0);
  assert.ok(total(config.recompute) < 40e9, `${total(config.recompute)} bytes`);
  assert.ok(total("none") > 40e9, "nothing would have to be computed again");
});

Deno.test("every shipped configuration loads, and its resolved text loads as itself", () => {
  for (const { name } of Deno.readDirSync(join(ROOT, "configs", "train"))) {
    const { yaml, config } = load(join(ROOT, "configs", "train", name));
    const path = Deno.makeTempFileSync({ suffix: ".yaml" });
    Deno.writeTextFileSync(path, yaml);
    assert.deepEqual(load(path), { yaml, config }, name);
    Deno.removeSync(path);
  }
});

Deno.test("every model file loads by name", () => {
  const sizes: Record<string, number> = {
    "tinyllama-1.1b": 1100048384,
    "tinyllama-120m": 121129728,
    "small-110m": 124668672,
    "nano-15m": 24407712,
    demo: 7718592,
    tiny: 1048736,
  };
  for (const { name } of Deno.readDirSync(join(ROOT, "configs", "models"))) {
    const model = name.replace(".yaml", "");
    const { config } = load(
      DEMO,
      `model=${model}`,
      "data.sequence_length=64",
      "batch_tokens=1024",
    );
    assert.equal(planRun(config, footprintOf("cpu", "f32")).parameters, sizes[model], name);
  }
});

Deno.test("an unknown key is refused with its line and the key that was meant", () => {
  const text = changed("  lr: 3.0e-3", "  learning_rate: 3.0e-3");
  const message = mistake(text);
  const line = lineOf(text, "learning_rate");
  assert.match(
    message,
    new RegExp(
      `run.yaml:${line}:3: unknown key "optimizer.learning_rate", did you mean "optimizer.lr"`,
    ),
  );
  assert.match(message, /"optimizer.lr" is missing, expected a positive number/);
  assert.match(message, /2 mistakes/);
});

Deno.test("a wrong type, a value out of range and a missing section are all listed at once", () => {
  const text = demoText.replace("seed: 3407", "seed: lucky").replace("beta2: 0.95", "beta2: 1.5")
    .replace(/checkpoint:[^]*?non_finite/, "non_finite");
  const message = mistake(text);
  assert.match(
    message,
    new RegExp(
      `run.yaml:${
        lineOf(text, "seed:")
      }:3: "run.seed" is "lucky", expected an integer of 0 or more`,
    ),
  );
  assert.match(
    message,
    new RegExp(
      `run.yaml:${
        lineOf(text, "beta2")
      }:3: "optimizer.beta2" is 1.5, expected a number from 0 to below 1`,
    ),
  );
  assert.match(message, /"checkpoint" is missing, expected a mapping/);
});

Deno.test("combinations that cannot work are refused", () => {
  const minLr = mistake(changed("min_lr: 3.0e-4", "min_lr: 3.0e-3"));
  assert.match(minLr, /"optimizer.min_lr" is 0.003, expected less than optimizer.lr = 0.003/);
  const batch = mistake(changed("batch_tokens: 2048", "batch_tokens: 3000"));
  assert.match(batch, /"batch_tokens" is 3000, expected a multiple of .* 8 x 256 = 2048/);
  const long = mistake(changed("sequence_length: 256", "sequence_length: 512"));
  assert.match(long, /"data.sequence_length" is 512, expected at most .* = 256/);
  const both = mistake(changed("  steps: 400", "  steps: 400\n  tokens: 100000"));
  assert.match(both, /expected exactly one of tokens and steps in horizon/);
  const warmup = mistake(changed("warmup_steps: 20", "warmup_steps: 400"));
  assert.match(warmup, /"optimizer.warmup_steps" is 400, expected less than .* 400 steps/);
});

Deno.test("text that is not YAML is refused with line and column", () => {
  assert.match(mistake("run:\n  name: [1,\n"), /run.yaml:\d+:\d+: /);
  assert.match(mistake("- 1\n"), /run.yaml:1:1: expected a mapping/);
});

Deno.test("hostile files end in a few lines: deep, long, twice the same key, aliases", () => {
  const deep = (open: string) => mistake(`run:\n  ${open.repeat(100_000)}`);
  const tooDeep = /^Cannot use "run.yaml": 1 mistake\n {2}run.yaml:2:\d+: nested too deeply$/;
  for (const open of ["[", "{", "- ", "? "]) assert.match(deep(open), tooDeep);
  assert.match(
    mistake(changed("data/demo", "x".repeat(1 << 20))),
    /^Cannot use "run.yaml": it has \d+ bytes, expected a configuration of at most 1048576$/,
  );
  const twice = mistake(demoText + "device: cpu\n");
  assert.match(twice, /^Cannot use "run.yaml": 1 mistake\n.* Map keys must be unique$/);
  assert.match(
    mistake(changed("seed: 3407", "seed: *other")),
    /^Cannot use "run.yaml": Unresolved alias .*: other$/,
  );
  const nine = (name: string) => `[${new Array(9).fill(`*${name}`)}]`;
  const bomb = [..."bcdefghi"].map((name, i) => `${name}: &${name} ${nine("abcdefgh"[i])}\n`);
  assert.match(
    mistake(`a: &a [x]\n${bomb.join("")}`),
    /^Cannot use "run.yaml": Excessive alias count.*$/,
  );
  const unknown = Array.from({ length: 1000 }, (_, i) => `key${i}: 1\n`).join("");
  const lines = mistake(demoText + unknown).split("\n");
  assert.equal(lines[0], 'Cannot use "run.yaml": 1000 mistakes');
  assert.equal(lines.length, 22);
  assert.equal(lines.at(-1), "  and 980 more");
  assert.match(
    mistake(changed("seed: 3407", `seed: [${"1, ".repeat(200_000)}]`)),
    /"run.seed" is \[1, 1, 1, 1, 1, 1, 1, 1, \.\.\.\], expected an integer of 0 or more$/,
  );
});

Deno.test("--set overrides, creates nothing unknown, and is named in its mistakes", () => {
  assert.equal(load(DEMO, "optimizer.lr=6e-3").config.schedule.lr, 6e-3);
  assert.equal(load(DEMO, "threads=2").config.threads, 2);
  assert.equal(load(DEMO, "model.num_hidden_layers=2").config.model.numLayers, 2);
  assert.equal(
    load(DEMO, "horizon={tokens: 10000}", "optimizer.warmup_steps=2").config.schedule.totalSteps,
    5,
  );
  const inTokens = load(
    DEMO,
    "horizon.steps=null",
    "horizon.tokens=10000",
    "optimizer.warmup_steps=2",
  );
  assert.equal(inTokens.config.schedule.totalSteps, 5);
  assert.match(
    mistake(demoText, "horizon.tokens=10000"),
    /"horizon.steps" is 400, expected exactly one of tokens and steps in horizon, the other null/,
  );
  assert.match(mistake(demoText, "horizon.steps=null"), /expected exactly one of tokens and steps/);
  assert.match(
    mistake(demoText, "optimizr.lr=1"),
    /--set optimizr.lr=1: unknown key "optimizr", did you mean "optimizer"/,
  );
  assert.match(
    mistake(demoText, "optimizer.bata1=0.5"),
    /--set optimizer.bata1=0.5: unknown key "optimizer.bata1", did you mean "optimizer.beta1"/,
  );
  assert.match(mistake(demoText, "optimizer.lr=fast"), /--set optimizer.lr=fast: .* is "fast"/);
  assert.match(
    mistake(demoText, "model.num_layers=2"),
    /--set model.num_layers=2: unknown key "num_layers", did you mean "num_hidden_layers"/,
  );
  assert.throws(() => parseOverride("optimizer.lr"), /expected KEY=VALUE/);
});

Deno.test("a run that is nowhere is refused with the places tried", () => {
  assert.throws(
    () => load("nope"),
    new UsageError('Cannot find the train configuration "nope"; tried:\n  configs/train/nope.yaml'),
  );
});

Deno.test("a model that is nowhere is refused with the places tried", () => {
  assert.match(mistake(demoText, "model=llama-9000b"), /llama-9000b"; tried:\n.*models.*yaml/);
});
