// `tinyllama pretrain --dry-run` says which device and which precision its memory table is for, and needs none of them.

import assert from "node:assert/strict";
import { tinyllama } from "./command_line.ts";

const DRY_RUN = ["pretrain", "--config", "demo", "--dry-run"] as const;

async function dryRun(...args: readonly string[]): Promise<string> {
  const { code, text, error } = await tinyllama([...DRY_RUN, ...args]);
  assert.equal(code, 0, error);
  return text;
}

Deno.test("a dry run plans for the device that is named, here or not", async () => {
  const [cuda, exact, cpu, json] = await Promise.all([
    dryRun("--device", "cuda", "--precision", "bf16"),
    dryRun("--device", "cuda", "--precision", "f32"),
    dryRun("--device", "cpu:wasm"),
    dryRun("--device", "cuda", "--precision", "bf16", "--json"),
  ]);
  assert.match(cuda, /\n {2}master parameters .*\nmemory is for cuda with activations in bf16; /s);
  assert.match(exact, /\nmemory is for cuda with activations in f32; nothing was started\n$/);
  assert.doesNotMatch(exact, /master parameters/);
  assert.match(cpu, /\nmemory is for cpu:wasm with activations in f32; nothing was started\n$/);
  assert.doesNotMatch(cpu, /scratch/);
  const { plan } = JSON.parse(json);
  assert.deepEqual([plan.device, plan.precision], ["cuda", "bf16"]);
});

Deno.test("a dry run on auto says what auto takes", async () => {
  assert.match(
    await dryRun("--device", "auto"),
    /\nmemory is for (cpu|webgpu|cuda) with activations in (f32|bf16), which auto takes on this machine; /,
  );
});

Deno.test("a micro-batch with tensors that no device counts is refused, naming the tensor", async () => {
  const model = ["--set", "model=tinyllama-1.1b", "--set", "data.sequence_length=2048"];
  const batch = ["--set", "batch_tokens=262144", "--set", "micro_batch_size=128"];
  const { code, error } = await tinyllama([...DRY_RUN, ...model, ...batch]);
  assert.equal(code, 1);
  assert.match(
    error,
    /^error: Cannot allocate "activations.0.gateUp" of shape \[128,2048,11264\]: 2952790016 elements, at most 2147483647\n$/,
  );
});
