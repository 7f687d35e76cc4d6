// `--device cuda` as a user runs it, as processes on the simulated card: training that goes on elsewhere and comes back,
// greedy text as the CPU's, what doctor shows, and what is said where something is missing.

import assert from "node:assert/strict";
import { join } from "node:path";
import { CUDA_RESERVED } from "../../lib/backend/cuda/footprint.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { buildSimulator } from "../cuda_sim/build.ts";
import { prose, writeFiles } from "../data/data_setup.ts";
import { writeTextModel } from "../generate/generating_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { type Outcome, tinyllama } from "./command_line.ts";

const RESERVED_BYTES = CUDA_RESERVED.reduce((sum, { byteLength }) => sum + byteLength, 0);

const isQuick = Deno.env.get("TINYLLAMA_QUICK") === "1";
const simulator = isQuick
  ? { kind: "missing", reason: "left to deno task test" } as const
  : await buildSimulator();

type Run = (args: readonly string[], environment?: Record<string, string>) => Promise<Outcome>;

/** A test in a folder of its own; `run` is `tinyllama` with the stand-ins as its CUDA libraries. */
function onSimulator(
  name: string,
  body: (folder: string, run: Run) => Promise<void>,
  missing = simulator.kind === "missing" ? simulator.reason : null,
): void {
  Deno.test({
    name: `${name} in the CUDA simulator${missing === null ? "" : ` (skipped: ${missing})`}`,
    ignore: missing !== null,
    fn: () =>
      inTempFolder((folder) =>
        body(folder, (args, more) => {
          const environment = { TINYLLAMA_CUDA_LIBRARIES: librariesOf(), ...more };
          return tinyllama(args, { environment });
        })
      ),
  });
}

function librariesOf(): string {
  return simulator.kind === "built" ? simulator.folder : "";
}

async function succeed(outcome: Promise<Outcome>): Promise<string> {
  const { code, text, error } = await outcome;
  assert.equal(code, 0, error);
  return text;
}

/** Fails with one message and no stack trace. */
async function fail(outcome: Promise<Outcome>, message: RegExp): Promise<void> {
  const { code, error } = await outcome;
  assert.equal(code, 1, error);
  assert.match(error, message);
  assert.equal(error.match(/^error: /gm)?.length, 1, error);
  assert.doesNotMatch(error, /^\s+at .*:\d+:\d+\)?$/m, "a stack trace");
}

/** Six steps of the smallest model, saved every two. */
function pretrainArguments(folder: string, output: string): string[] {
  const settings = {
    "run.output": join(folder, output),
    "model": "tiny",
    "data.path": join(folder, "data"),
    "data.sequence_length": 16,
    "batch_tokens": 64,
    "micro_batch_size": 2,
    "horizon.steps": 6,
    "optimizer.warmup_steps": 2,
    "evaluation.every_steps": 6,
    "evaluation.tokens": 32,
    "checkpoint.every_steps": 2,
    "checkpoint.keep_last": 3,
    "threads": 1,
  };
  const sets = Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  return ["pretrain", "--config", "demo", ...sets];
}

/** Losses of a run by step. */
function lossesOf(folder: string): number[] {
  return Deno.readTextFileSync(join(folder, "metrics.jsonl")).trim().split("\n")
    .map((line) => Number(JSON.parse(line).loss));
}

function checkLosses(found: readonly number[], expected: readonly number[], tolerance: number) {
  assert.equal(found.length, expected.length);
  found.forEach((loss, i) => {
    const error = Math.abs(loss / expected[i] - 1);
    assert.ok(error <= tolerance, `step ${i + 1}: loss ${loss}, on the CPU ${expected[i]}`);
  });
}

function removeSteps(folder: string, ...steps: readonly number[]): void {
  for (const step of steps) Deno.removeSync(join(folder, `step-00000${step}`), { recursive: true });
}

onSimulator("a run goes on from its checkpoint on the CPU and back", async (folder, run) => {
  writeFiles(folder, { "a.md": prose(6000, 1), "b.ts": prose(6000, 2) });
  const texts = [join(folder, "a.md"), join(folder, "b.ts")];
  await succeed(run(["prepare", ...texts, "--output", join(folder, "data")]));
  const start = (output: string, device: string, precision: string) =>
    succeed(run([
      ...pretrainArguments(folder, output),
      ...["--device", device, "--precision", precision],
    ]));
  const [, mixed, rounded] = await Promise.all([
    start("whole", "cpu", "f32"),
    start("mixed", "cuda", "f32"),
    start("rounded", "cuda", "auto"),
  ]);
  assert.match(mixed, /^run demo on cuda \(simulator, f32\)$/m);
  assert.match(rounded, /^run demo on cuda \(simulator, bf16\)$/m);
  const output = join(folder, "mixed"), config = join(output, "config.yaml");
  const resume = (device: string) =>
    succeed(run(["pretrain", "--config", config, "--resume", "--device", device]));
  removeSteps(output, 4, 6);
  assert.match(await resume("cpu"), /^run demo on cpu:.*\n[^]*Finished\./m);
  removeSteps(output, 6);
  assert.match(await resume("cuda"), /^run demo on cuda \(simulator, f32\)\n[^]*Finished\./m);
  const expected = lossesOf(join(folder, "whole"));
  assert.ok(expected[5] < expected[0], "no progress");
  // Both round in f32, in other orders; bf16 keeps 8 bits of every weight and activation.
  checkLosses(lossesOf(output), expected, 1e-4);
  checkLosses(lossesOf(join(folder, "rounded")), expected, 0.01);
  const greedy = ["generate", "Once upon", "--temperature", "0", "--max-tokens", "4", "--json"];
  const model = ["--model", join(folder, "rounded"), "--device", "cuda"];
  assert.equal(JSON.parse(await succeed(run([...greedy, ...model]))).tokens.length, 4);
});

onSimulator("greedy text in f32 is the CPU's", async (folder, run) => {
  await writeTextModel(folder, { addBos: false, eosIds: [2] });
  const prompts = ["Once upon a time", "def f(x):\n"];
  const input = join(folder, "prompts.jsonl");
  Deno.writeTextFileSync(input, prompts.map((prompt) => JSON.stringify({ prompt })).join("\n"));
  const args = ["generate", "--model", folder, "--input", input, "--json", "--max-tokens", "8"];
  const answers = async (device: string, ...more: readonly string[]) => {
    const flags = ["--temperature", "0", "--precision", "f32", "--device", device, ...more];
    const lines = (await succeed(run([...args, ...flags]))).trim().split("\n");
    return lines.map((line) => JSON.parse(line).tokens.map(({ id }: { id: number }) => id));
  };
  const [cpu, cuda, small, smallOnCuda] = await Promise.all([
    answers("cpu"),
    answers("cuda"),
    answers("cpu", "--quantize", "q8_0"),
    answers("cuda", "--quantize", "q8_0"),
  ]);
  assert.deepEqual(cpu.map((ids) => ids.length), [8, 8]);
  assert.deepEqual(cuda, cpu);
  assert.deepEqual(smallOnCuda, small);
});

onSimulator("doctor lists the card, and why it cannot be used", async (_folder, run) => {
  const [whole, old] = await Promise.all([
    succeed(run(["doctor", "--json"])),
    succeed(run(["doctor"], { TINYLLAMA_CUDA_SIM_PTX: "6.0" })),
  ]);
  const { devices, auto } = JSON.parse(whole);
  const cuda = devices.find(({ device }: { device: string }) => device === "cuda");
  assert.ok(cuda.isReady, cuda.detail);
  assert.match(
    cuda.detail,
    /^simulator, compute 8\.6, .* GiB free, driver for CUDA 12\.4, runtime 12\.4, .*libcuda\.so\.1/,
  );
  assert.equal(auto, "cuda (simulator, bf16)");
  assert.match(old, /^ {2}cuda +missing +.*the driver, for CUDA 12\.4, is too old for kernels/m);
});

/** Generates with a small model; says which variables are to differ. */
async function generateWith(folder: string, run: Run) {
  const model = join(folder, "model");
  await writeTextModel(model, { addBos: false, eosIds: [2] });
  return (environment: Record<string, string>) =>
    run(["generate", "a", "--model", model, "--device", "cuda"], environment);
}

onSimulator("an old driver and too little memory are one message", async (folder, run) => {
  const generate = await generateWith(folder, run);
  await Promise.all([
    fail(
      generate({ TINYLLAMA_CUDA_SIM_PTX: "6.0" }),
      /^error: .*the driver, for CUDA 12\.4, is too old for kernels\/dist\/\w+\.ptx of PTX version/,
    ),
    fail(
      generate({ TINYLLAMA_CUDA_SIM_MEMORY: String(RESERVED_BYTES + (4 << 20)) }),
      /^error: Cannot allocate "weights" on cuda \(simulator\): asked for \d+ bytes, \d+ bytes are in use; \d+ of the device's \d+ bytes are free/,
    ),
  ]);
});

/** The system's own driver would be found where the test leaves one out. */
function whyNotWithoutDriver(): string | null {
  if (simulator.kind === "missing") return simulator.reason;
  const search = findCuda([]);
  const hasNone = search.kind === "missing" && search.reason.startsWith("no NVIDIA driver");
  return hasNone ? null : "this machine has a driver";
}

onSimulator("libraries that are not there are one message", async (folder, run) => {
  const generate = await generateWith(folder, run);
  const partial = join(folder, "partial");
  Deno.mkdirSync(partial);
  for (const name of ["libcuda.so.1", "libcudart.so.12"]) {
    Deno.symlinkSync(join(librariesOf(), name), join(partial, name));
  }
  await Promise.all([
    fail(
      generate({ TINYLLAMA_CUDA_LIBRARIES: folder }),
      /^error: Cannot use cuda: no NVIDIA driver \(libcuda\); install .*\nTried:\n {2}.*libcuda\.so\.1/,
    ),
    fail(
      generate({ TINYLLAMA_CUDA_LIBRARIES: partial }),
      /^error: Cannot use cuda: the driver \(CUDA 12\.4\) is there, but not libcublasLt; install /,
    ),
  ]);
}, whyNotWithoutDriver());
