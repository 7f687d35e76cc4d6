// Initial weights: normal with the standard deviations of the table in weights.ts, norms at one. Every value is a pure
// function of (seed, weight, element), so it depends neither on the device nor on how weights are split.

import type { Memory } from "../core/backend.ts";
import { philox } from "../core/rng.ts";
import { elementCount, rows, type Tensor } from "../core/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { blockTable, type ParameterSet, rootTable, type WeightEntry } from "./weights.ts";

const CHUNK_ELEMENTS = 1 << 20;
const TWO_PI = 2 * Math.PI;
const TO_UNIT = 1 / 4294967296;

/**
 * Elements `first` … of the standard normal stream (seed, stream), scaled by `std`. Box-Muller on Philox words; `first`
 * must be a multiple of 4.
 */
export function fillNormal(
  out: Float32Array,
  std: number,
  seed: number,
  stream: number,
  first: number,
): void {
  const words = new Uint32Array(4);
  for (let i = 0; i < out.length; i += 4) {
    philox(words, seed, stream, (first + i) / 4, 0x696e6974);
    for (let pair = 0; pair < 4; pair += 2) {
      const radius = std * Math.sqrt(-2 * Math.log((words[pair] + 0.5) * TO_UNIT));
      const angle = TWO_PI * words[pair + 1] * TO_UNIT;
      out[i + pair] = radius * Math.cos(angle);
      out[i + pair + 1] = radius * Math.sin(angle);
    }
  }
}

/** Writes the initial values of all weights. f32 parameters only: other precisions round from their master copy. */
export function initializeWeights(
  memory: Memory,
  config: ModelConfig,
  set: ParameterSet,
  seed: number,
): void {
  let stream = 0;
  const write = (entry: WeightEntry, tensor: Tensor) => {
    writeInitial(memory, entry, tensor, seed, stream++);
  };
  for (const entry of rootTable(config)) write(entry, set.root[entry.key]);
  set.blocks.forEach((block, layer) => {
    for (const entry of blockTable(config, layer)) write(entry, block[entry.key]);
  });
}

function writeInitial(
  memory: Memory,
  entry: WeightEntry,
  tensor: Tensor,
  seed: number,
  stream: number,
): void {
  if (entry.initialStd === null) return memory.fill(tensor, 1);
  const total = elementCount(tensor.shape);
  const flat = { ...tensor, shape: [total] };
  const buffer = new Float32Array(Math.min(CHUNK_ELEMENTS, total + 3 & ~3));
  for (let first = 0; first < total; first += CHUNK_ELEMENTS) {
    const end = Math.min(first + CHUNK_ELEMENTS, total);
    fillNormal(buffer, entry.initialStd, seed, stream, first);
    memory.write(rows(flat, first, end), buffer.subarray(0, end - first));
  }
}
