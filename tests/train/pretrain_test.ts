// Whole runs: what lands in the run folder, resuming bit for bit, interruption, and the stop on bad numbers.

import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Backend } from "../../lib/core/backend.ts";
import { DeviceError, TinyllamaError, UsageError } from "../../lib/core/errors.ts";
import { clearRun, latestCheckpoint, listCheckpoints } from "../../lib/train/checkpoint.ts";
import type { RunConfig } from "../../lib/train/config.ts";
import type { StepMetrics } from "../../lib/train/metrics.ts";
import { pretrain, type PretrainData, type PretrainHooks } from "../../lib/train/pretrain.ts";
import { chooseStart } from "../../lib/train/run_folder.ts";
import { train } from "../../lib/train/train.ts";
import { inTempFolder } from "../temp_folder.ts";
import { congruentialSamples, openCpu, SMALL_RUN } from "./training_setup.ts";

function smallData(): PretrainData {
  const samples = congruentialSamples(64, 16);
  const inputs = new Int32Array(32);
  const targets = new Int32Array(32);
  samples.batch(1000, 2, inputs, targets);
  const half = targets.slice().fill(-1, 16);
  return {
    samples: { ...samples, describe: (index) => `rule epoch 0 block ${index}` },
    heldOut: [
      { name: "rule", batches: () => [{ inputs, targets }, { inputs, targets: half }] },
      { name: "full", batches: () => [{ inputs, targets }] },
      { name: "short", batches: () => [{ inputs, targets: half }] },
    ],
    fingerprint: "rule",
  };
}

function saveTokenizer(folder: string): Promise<void> {
  Deno.writeTextFileSync(join(folder, "tokenizer.json"), "{}");
  return Promise.resolve();
}

interface Attempt {
  readonly resume?: boolean;
  readonly force?: boolean;
  readonly stopAfter?: number;
  readonly data?: PretrainData;
}

async function attempt(backend: Backend, config: RunConfig, options: Attempt = {}) {
  const { resume = false, force = false, stopAfter } = options;
  const stop = new AbortController();
  const steps: StepMetrics[] = [];
  const hooks: PretrainHooks = {
    onStep: (metrics) => {
      steps.push(metrics);
      if (metrics.step === stopAfter) stop.abort();
    },
  };
  const start = chooseStart(config.output, { resume, force });
  if (force) clearRun(config.output);
  const outcome = await pretrain({
    run: { config, yaml: `# ${config.name}\n` },
    backend,
    data: options.data ?? smallData(),
    saveTokenizer,
    start,
    signal: stop.signal,
    hooks,
  });
  return { outcome, steps };
}

function inFolder(body: (config: RunConfig, backend: Backend) => Promise<void>) {
  return inTempFolder(async (output) => {
    using backend = await openCpu(1);
    await body({ ...SMALL_RUN, output }, backend);
  });
}

function linesOf(config: RunConfig, name: string): Record<string, unknown>[] {
  const lines = Deno.readTextFileSync(join(config.output, name)).trim().split("\n");
  return lines.map((line) => JSON.parse(line));
}

Deno.test("a run leaves metrics, validation, its configuration and checkpoints", () =>
  inFolder(async (config, backend) => {
    const { outcome } = await attempt(backend, config);
    assert.equal(outcome.isFinished, true);
    const metrics = linesOf(config, "metrics.jsonl");
    assert.deepEqual(metrics.map((line) => line.step), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(metrics[7].tokens, 8 * 64);
    assert.equal(metrics[1].lr, 1e-2);
    for (const key of ["loss", "grad_norm", "tokens_per_second", "gflops_per_second"]) {
      assert.ok(Number(metrics[4][key]) > 0, key);
    }
    const validation = linesOf(config, "validation.jsonl");
    assert.deepEqual(validation.map((line) => line.step), [0, 4, 8]);
    assert.deepEqual(validation[0].evaluated_tokens, { rule: 48, full: 32, short: 16 });
    assert.equal(Deno.readTextFileSync(join(config.output, "config.yaml")), "# small\n");
    assert.deepEqual(listCheckpoints(config.output).map((one) => one.step), [6, 8]);
    const folder = latestCheckpoint(config.output)?.folder ?? "";
    assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name).sort(), [
      "config.json",
      "generation_config.json",
      "manifest.json",
      "model.safetensors",
      "optimizer.safetensors",
      "tokenizer.json",
      "trainer_state.json",
    ]);
  }));

Deno.test("validation is the mean over tokens, also of a part of a batch", () =>
  inFolder(async (config, backend) => {
    await attempt(backend, { ...config, schedule: { ...config.schedule, totalSteps: 4 } });
    const [first] = linesOf(config, "validation.jsonl");
    const { rule, full, short } = Object(first.loss);
    assert.ok(Math.abs(full - Math.log(64)) < 0.5, `full ${full}`);
    assert.notEqual(full, short);
    assert.ok(Math.abs(rule - (32 * full + 16 * short) / 48) < 1e-6, `${rule} ${full} ${short}`);
  }));

Deno.test("interrupted and resumed: the losses of the run that was not, bit for bit", () =>
  inFolder(async (config, backend) => {
    const whole = await attempt(backend, config);
    const course = whole.steps.map(({ loss, grad_norm }) => ({ loss, grad_norm }));
    const first = await attempt(backend, config, { force: true, stopAfter: 4 });
    assert.deepEqual(first.outcome.isFinished, false);
    assert.equal(latestCheckpoint(config.output)?.step, 4);
    const second = await attempt(backend, config, { resume: true });
    assert.equal(second.steps[0].step, 5);
    assert.deepEqual(
      [...first.steps, ...second.steps].map(({ loss, grad_norm }) => ({ loss, grad_norm })),
      course,
    );
    const metrics = linesOf(config, "metrics.jsonl");
    assert.deepEqual(metrics.map((line) => line.step), [1, 2, 3, 4, 5, 6, 7, 8]);
  }));

Deno.test("lines written after the checkpoint are written again, not twice", () =>
  inFolder(async (config, backend) => {
    await attempt(backend, config, { stopAfter: 4 });
    const path = join(config.output, "metrics.jsonl");
    Deno.writeTextFileSync(path, `{"step":5,"loss":1}\n{"step":6,"lo`, { append: true });
    await attempt(backend, config, { resume: true });
    const metrics = linesOf(config, "metrics.jsonl");
    assert.deepEqual(metrics.map((line) => line.step), [1, 2, 3, 4, 5, 6, 7, 8]);
  }));

Deno.test("a run is neither overwritten nor resumed as another one by accident", () =>
  inFolder(async (config, backend) => {
    await attempt(backend, config, { stopAfter: 2 });
    await assert.rejects(
      attempt(backend, config),
      /holds a run at step 2; continue it with --resume/,
    );
    await assert.rejects(
      attempt(backend, config, { resume: true, force: true }),
      /^UsageError: Cannot resume the run in ".*" and delete it/,
    );
    const other = { ...config, adamw: { ...config.adamw, beta2: 0.99 } };
    await assert.rejects(
      attempt(backend, other, { resume: true }),
      /another configuration:\n {2}adamw.beta2: 0.95 then, 0.99 now/,
    );
    await assert.rejects(
      attempt(backend, config, { resume: true, data: { ...smallData(), fingerprint: "other" } }),
      /another configuration:\n {2}data.fingerprint: "rule" then, "other" now/,
    );
  }));

Deno.test("--force deletes nothing before device and data are there", () =>
  inFolder(async (config, backend) => {
    await attempt(backend, config, { stopAfter: 2 });
    const path = join(config.output, "nowhere");
    const elsewhere = { ...config, data: { ...config.data, path } };
    const run = { config: elsewhere, yaml: "" };
    await assert.rejects(train(run, { force: true }), /there is no manifest\.json/);
    assert.equal(latestCheckpoint(config.output)?.step, 2);
  }));

Deno.test("resuming begins where there is nothing, but not beside a damaged checkpoint", () =>
  inFolder(async (config, backend) => {
    const { steps } = await attempt(backend, config, { resume: true, stopAfter: 2 });
    assert.deepEqual(steps.map(({ step }) => step), [1, 2]);
    const folder = latestCheckpoint(config.output)?.folder ?? "";
    Deno.truncateSync(join(folder, "model.safetensors"), 100);
    await assert.rejects(
      attempt(backend, config, { resume: true }),
      new UsageError(
        `Cannot resume "${config.output}": its checkpoint "${folder}" is not complete: a file is ` +
          "missing or has another size; restore it, or delete the run with --force",
      ),
    );
  }));

Deno.test("stops after too many bad steps in a row and names the samples of the last", () =>
  inFolder(async (config, backend) => {
    // No step is that small: parameters become infinite in the first one.
    const adamw = { ...config.adamw, weightDecay: 1e38 };
    const schedule = { ...config.schedule, lr: 1e38, minLr: 1e37, warmupSteps: 0 };
    const { name, message } = await attempt(backend, { ...config, adamw, schedule }).then(
      () => assert.fail("the run went on"),
      (error: unknown) => error instanceof TinyllamaError ? error : assert.fail(String(error)),
    );
    assert.equal(name, "TinyllamaError");
    assert.match(message, /not finite in 3 steps in a row, the last of them step 4 /);
    assert.match(message, /\n {2}sample 12: rule epoch 0 block 12\n/);
    assert.match(message, /sample 15: rule epoch 0 block 15$/);
    const metrics = linesOf(config, "metrics.jsonl");
    assert.deepEqual(metrics.map((line) => line.skipped), [0, 1, 2, 3]);
    assert.equal(metrics[3].loss, null);
  }));

Deno.test("a step that fails while the next one is under way is the run's error, once that is done", () =>
  inFolder(async (config, backend) => {
    let results = 0;
    let isNextDone = false;
    const failing: Backend = {
      ...backend,
      info: { ...backend.info, isAsynchronous: true },
      async read(source) {
        const bytes = await backend.read(source);
        if (source.name !== "losses.summary") return bytes;
        if (++results === 1) throw new DeviceError("Cannot go on: the device is lost");
        await setTimeout(20);
        isNextDone = true;
        return bytes;
      },
    };
    await assert.rejects(
      attempt(failing, config),
      new DeviceError("Cannot go on: the device is lost"),
    );
    assert.equal(results, 2);
    assert.equal(isNextDone, true);
  }));
