// Generation on CUDA from a model folder: in f32 the CPU's tokens, in bf16 its logits within rounding; and by the command.

import assert from "node:assert/strict";
import { join } from "node:path";
import type { Backend } from "../../lib/core/backend.ts";
import { loadModel } from "../../lib/generate/load_model.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { saveWeights } from "../../lib/io/hf_weights.ts";
import { toHfConfig } from "../../lib/model/config.ts";
import { weightSlots } from "../../lib/train/snapshot.ts";
import { tinyllama } from "../cli/command_line.ts";
import {
  draw,
  type Drawn,
  GREEDY,
  logSoftmax,
  openSmall,
  promptOf,
  SMALL_MODEL,
  writeTextModel,
} from "../generate/generating_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { openCpu } from "../train/training_setup.ts";
import { cuda, onCard, onCuda } from "./on_cuda.ts";

const PROMPTS = [1, 9, 40].map((length, i) => promptOf(i, length));
const FRESH = 12;
/** Weights, activations and logits of 8 bits through two layers, in units of the largest logit. */
const BF16_TOLERANCE = 0.03;

/** Weights and config.json of SMALL_MODEL. */
async function writeSmallModel(folder: string): Promise<void> {
  using small = await openSmall();
  const slots = weightSlots(SMALL_MODEL, small.params);
  await saveWeights(small.backend, join(folder, "model.safetensors"), slots);
  const config = JSON.stringify(toHfConfig(SMALL_MODEL, "float32"));
  Deno.writeTextFileSync(join(folder, "config.json"), config);
}

async function drawnOn(backend: Backend, folder: string) {
  using loaded = await loadModel(backend, folder, { weights: "stored" });
  return await draw(loaded.model, PROMPTS, { maxTokens: FRESH, batchSize: 2 });
}

async function logitsOn(backend: Backend, folder: string): Promise<Float32Array> {
  using loaded = await loadModel(backend, folder, { weights: "stored" });
  return await computeLogits(loaded.model, PROMPTS[2]);
}

async function greedyTokens(folder: string): Promise<void> {
  await writeSmallModel(folder);
  using cpu = await openCpu(2);
  using device = cuda.open("f32", 0);
  const expected = await drawnOn(cpu, folder), found = await drawnOn(device, folder);
  assert.deepEqual(found.map(({ ids }) => ids), expected.map(({ ids }) => ids));
  assert.ok(expected.every(({ ids }) => ids.length === FRESH));
}

async function roundedLogits(folder: string): Promise<void> {
  await writeSmallModel(folder);
  using cpu = await openCpu(2);
  using device = cuda.open("bf16", 0);
  const expected = await logitsOn(cpu, folder), found = await logitsOn(device, folder);
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const error = expected.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i])), 0);
  assert.ok(error <= BF16_TOLERANCE * largest, `off by ${error}, the largest is ${largest}`);
  const [, , { ids, logProbs }] = await drawnOn(device, folder);
  const last = logSoftmax(found.subarray(-SMALL_MODEL.vocabSize));
  assert.ok(Math.abs(logProbs[0] - last[ids[0]]) < BF16_TOLERANCE * largest, `${logProbs[0]}`);
}

/** Kernels that begin before those they depend on have ended change no bit of what is drawn, whatever the weights are. */
async function dependentTokens(openDependent: (seed: number) => Backend): Promise<void> {
  await inTempFolder(async (folder) => {
    await writeSmallModel(folder);
    for (const weights of ["bf16", "f16", "q8_0", "q4_0"] as const) {
      const drawn: Drawn[][] = [];
      for (const open of [() => cuda.open("bf16", 0), () => openDependent(1)]) {
        using backend = open();
        using loaded = await loadModel(backend, folder, { weights });
        drawn.push(await draw(loaded.model, PROMPTS, { maxTokens: FRESH, batchSize: 2 }));
        const sampling = { ...GREEDY, temperature: 0.8, topK: 20, topP: 0.9 };
        drawn.push(await draw(loaded.model, PROMPTS.slice(0, 1), { maxTokens: FRESH, sampling }));
      }
      assert.deepEqual(drawn.slice(2), drawn.slice(0, 2));
      assert.ok(drawn.flat().every(({ ids }) => ids.length === FRESH));
    }
  });
}

/** Of the model with Llama's vocabulary: the text that a device makes of two prompts. */
async function answersOn(device: string, precision: string, folder: string): Promise<string[]> {
  const prompts = join(folder, "prompts.jsonl");
  Deno.writeTextFileSync(prompts, `{"prompt":"Once upon a time"}\n{"prompt":"def f(x):"}\n`);
  const flags = ["--input", prompts, "--temperature", "0", "--max-tokens", "8", "--json"];
  const choice = ["--device", device, "--precision", precision];
  const command = ["generate", "--model", folder, ...flags, ...choice];
  const { code, text, error } = await tinyllama(command);
  assert.equal(code, 0, error);
  return text.trim().split("\n").map((line) => JSON.parse(line).text);
}

async function commandsTexts(folder: string): Promise<void> {
  await writeTextModel(folder, { addBos: true, eosIds: [2] });
  const expected = await answersOn("cpu", "f32", folder);
  assert.deepEqual(await answersOn("cuda", "f32", folder), expected);
  assert.equal((await answersOn("cuda", "auto", folder)).length, expected.length);
}

onCuda("greedy tokens in f32 are the CPU's", () => inTempFolder(greedyTokens));
onCuda(
  "logits in bf16 are the CPU's within rounding, and what is drawn follows them",
  () => inTempFolder(roundedLogits),
);
const { openDependent } = cuda;
if (openDependent !== null) {
  onCuda("what is drawn in dependent launches is the same", () => dependentTokens(openDependent));
}
onCard("the command generates what it does on the CPU", () => inTempFolder(commandsTexts));
