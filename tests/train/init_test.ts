// Initial weights: the standard deviation of every tensor as measured, against the numbers of the original code.

import assert from "node:assert/strict";
import type { Tensor } from "../../lib/core/tensor.ts";
import { initializeWeights } from "../../lib/model/init.ts";
import { allocateParameters, blockTable, rootTable } from "../../lib/model/weights.ts";
import { openCpu, SMALL_RUN } from "./training_setup.ts";

const WIDE = {
  ...SMALL_RUN.model,
  vocabSize: 256,
  hiddenSize: 2048,
  intermediateSize: 192,
  numLayers: 1,
  numHeads: 6,
  numKvHeads: 1,
  headDim: 64,
};
// √(2/5/2048) for embedding, head and inputs of a block; 1/√2048/22 for what is added to the residual stream.
const PLAIN = 0.0139754;
const OUTPUT = 0.00100441;

Deno.test("hidden 2048 and 22 layers: the measured deviations are the original's", async () => {
  using backend = await openCpu(1);
  using set = allocateParameters(backend, WIDE, "parameters", "f32");
  // One layer is measured for all 22: only the number of layers enters the formula.
  const deep = { ...WIDE, numLayers: 22 };
  initializeWeights(backend, deep, set, 3407);
  const check = async (tensor: Tensor, expected: number | null) => {
    const values = new Float32Array(await backend.read(tensor));
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const std = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
    if (expected === null) return assert.ok(values.every((x) => x === 1), tensor.name);
    assert.ok(Math.abs(std / expected - 1) < 0.006, `${tensor.name}: ${std}, expected ${expected}`);
    assert.ok(
      Math.abs(mean) < 5 * expected / Math.sqrt(values.length),
      `${tensor.name}: mean ${mean}`,
    );
  };
  const [block] = set.blocks;
  for (const { key } of rootTable(deep)) {
    await check(set.root[key], key === "finalNorm" ? null : PLAIN);
  }
  const expected = {
    attnNorm: null,
    wqkv: PLAIN,
    wo: OUTPUT,
    mlpNorm: null,
    wGateUp: PLAIN,
    wDown: OUTPUT,
  };
  for (const { key } of blockTable(deep, 0)) await check(block[key], expected[key]);
});
