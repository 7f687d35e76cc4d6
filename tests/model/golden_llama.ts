// The golden values of tests/golden/llama (see the README there), and its models on a device.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { elementCount, type Tensor } from "../../lib/core/tensor.ts";
import { readModelConfig } from "../../lib/generate/load_model.ts";
import { loadWeights } from "../../lib/io/hf_weights.ts";
import { readJson } from "../../lib/io/json_file.ts";
import { SafetensorsFile } from "../../lib/io/safetensors.ts";
import type { ModelConfig } from "../../lib/model/config.ts";
import { allocateParameters, type ParameterSet } from "../../lib/model/weights.ts";
import { weightSlots } from "../../lib/train/snapshot.ts";
import { relativeError } from "../reference/finite_differences.ts";
import { sum } from "../reference/reduce.ts";

/** The models there are values for. */
export const GOLDEN_NAMES = ["gqa", "tied"] as const;

/** One step of the trajectory. */
interface GoldenStep {
  readonly step: number;
  readonly lr: number;
  readonly loss: number;
  readonly grad_norm: number;
}

/** One model's architecture and what transformers computed with it. */
export interface Golden {
  readonly config: ModelConfig;
  /** The checkpoint. */
  readonly weightsPath: string;
  /** (2, 24) */
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
  /** (10, 2, 25) */
  readonly batches: Int32Array;
  /** Real tensors by name: `logits`, `loss`, `grad.NAME`, and parameters after ten steps as `after.NAME`. */
  readonly expected: ReadonlyMap<string, Float64Array>;
  readonly trajectory: readonly GoldenStep[];
  readonly prompt: readonly number[];
  /** The prompt and its greedy continuation. */
  readonly greedy: readonly number[];
}

/** Reads the files of one model. */
export function readGolden(name: typeof GOLDEN_NAMES[number]): Golden {
  const folder = `${import.meta.dirname}/../golden/llama/${name}`;
  const expected = readTensors(`${folder}/expected.safetensors`, "");
  const after = readTensors(`${folder}/after_10_steps.safetensors`, "after.");
  const json = readJson(`${folder}/expected.json`);
  assert.ok(isExpected(json));
  return {
    config: readModelConfig(folder),
    weightsPath: `${folder}/model.safetensors`,
    inputs: integers(expected.get("input_ids")),
    targets: integers(expected.get("targets")),
    batches: integers(readTensors(`${folder}/batches.safetensors`, "").get("batches")),
    expected: new Map([...expected, ...after]),
    ...json,
  };
}

/** The model's weights on a device. */
export async function goldenParameters(backend: Backend, golden: Golden): Promise<ParameterSet> {
  const set = allocateParameters(backend, golden.config, "parameters", backend.precision.param);
  await loadWeights(backend, golden.weightsPath, weightSlots(golden.config, set));
  return set;
}

/** Compares every gradient in `set` within max |a − b| / max |b|. */
export async function checkGradients(
  backend: Backend,
  golden: Golden,
  set: ParameterSet,
  tolerance: number,
): Promise<void> {
  for await (const { name, values } of goldenTensors(backend, golden, set, "grad.")) {
    checkClose(golden, name, values, tolerance);
  }
}

/**
 * Compares parameters after ten steps: Σ |a − b| within a tenth of `tolerance` · Σ |b|, and all elements but one in a
 * thousand within `tolerance` · max |b|. Not all, because AdamW divides a gradient by its own size: where one of the
 * first steps has a gradient near epsilon, its rounding decides over a share of the learning rate. Golden values
 * computed in float64 differ from these in the same way.
 */
export async function checkAfterTenSteps(
  backend: Backend,
  golden: Golden,
  set: ParameterSet,
  tolerance: number,
): Promise<void> {
  for await (const { name, values } of goldenTensors(backend, golden, set, "after.")) {
    const wanted = goldenTensor(golden, name), largest = Math.max(...wanted.map(Math.abs));
    assert.equal(values.length, wanted.length, name);
    const distances = values.map((value, i) => Math.abs(value - wanted[i]));
    const mean = sum(distances) / sum(wanted.map(Math.abs));
    assert.ok(mean <= tolerance / 10, `${name}: mean relative difference ${mean}`);
    const outliers = distances.filter((distance) => distance > tolerance * largest).length;
    const allowed = Math.ceil(values.length / 1000);
    assert.ok(outliers <= allowed, `${name}: ${outliers} elements beyond ${tolerance}`);
  }
}

/** The tensors of `set` by their names in the checkpoint with `prefix` before, unstacked. */
async function* goldenTensors(
  backend: Backend,
  golden: Golden,
  set: ParameterSet,
  prefix: "grad." | "after.",
): AsyncGenerator<{ readonly name: string; readonly values: Float64Array }> {
  for (const { tensor, sources } of weightSlots(golden.config, set, prefix)) {
    const stacked = await reals(backend, tensor);
    let first = 0;
    for (const { name, shape } of sources) {
      const count = elementCount(shape);
      yield { name, values: stacked.subarray(first, first + count) };
      first += count;
    }
    assert.equal(first, stacked.length);
  }
}

function goldenTensor(golden: Golden, name: string): Float64Array {
  const wanted = golden.expected.get(name);
  assert.ok(wanted !== undefined, `there is no golden "${name}"`);
  return wanted;
}

/** Compares with the golden tensor `name` within max |a − b| / max |b|. */
export function checkClose(
  golden: Golden,
  name: string,
  found: Float64Array,
  tolerance: number,
): void {
  const wanted = goldenTensor(golden, name);
  assert.equal(found.length, wanted.length, name);
  const error = relativeError(found, wanted);
  assert.ok(error <= tolerance, `${name}: relative error ${error}, at most ${tolerance}`);
}

/** An f32 tensor's elements. */
export async function reals(backend: Backend, tensor: Tensor): Promise<Float64Array> {
  return Float64Array.from(new Float32Array(await backend.read(tensor)));
}

function readTensors(path: string, prefix: string): Map<string, Float64Array> {
  using file = new SafetensorsFile(path);
  const tensors = new Map<string, Float64Array>();
  for (const tensor of file.tensors.values()) {
    const bytes = new Uint8Array(tensor.byteLength);
    file.read(tensor, 0, bytes);
    const elements = tensor.dtype === "I32"
      ? new Int32Array(bytes.buffer)
      : new Float32Array(bytes.buffer);
    tensors.set(prefix + tensor.name, Float64Array.from(elements));
  }
  return tensors;
}

function integers(values: Float64Array | undefined): Int32Array {
  assert.ok(values !== undefined);
  return Int32Array.from(values);
}

function isExpected(json: unknown): json is Pick<Golden, "trajectory" | "prompt" | "greedy"> {
  return typeof json === "object" && json !== null &&
    ["trajectory", "prompt", "greedy"].every((key) => Array.isArray(Reflect.get(json, key)));
}
