// The benches at the paper's sizes on a backend that only counts: operands fit their operations, and a card of 80 GB holds
// them. What the simulator would take hours for fails here and not on a card.

import assert from "node:assert/strict";
import { footprintOf } from "../../lib/backend/footprint.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { checkedOps } from "../../lib/core/checked_ops.ts";
import { Engine } from "../../lib/generate/engine.ts";
import { DEFAULT_SAMPLING } from "../../lib/generate/sampling.ts";
import { allocateParameters, residentWeights } from "../../lib/model/weights.ts";
import { countingBackend } from "../../lib/train/counting_backend.ts";
import { productCases, trainingCases } from "../bench/gpu_cases.ts";
import { cacheCases, matvecCases } from "../bench/gpu_decode_cases.ts";
import { fullSizes } from "../bench/gpu_sizes.ts";

const CARD_BYTES = 80e9;

function checkingBackend(): Backend {
  const counting = countingBackend(footprintOf("cuda", "bf16"));
  return Object.assign(counting, checkedOps({ ...counting }, counting.precision));
}

Deno.test("operands of the GPU benches fit at the paper's sizes", () => {
  const sizes = fullSizes(), backend = checkingBackend();
  const { copyBytes } = sizes;
  for (const open of [trainingCases, productCases, matvecCases, cacheCases]) {
    using group = open(backend, sizes);
    for (const { turns, run } of group.cases) {
      for (let turn = 0; turn < turns; turn++) run(turn);
    }
    const bytes = backend.allocatedBytes + 2 * copyBytes;
    assert.ok(bytes < CARD_BYTES, `${open.name}: ${bytes} bytes`);
  }
});

Deno.test("a prompt and steps of the GPU benches fit the engine at the paper's sizes", () => {
  const { model, prompt, depth } = fullSizes(), backend = checkingBackend();
  const config = { ...model, maxSeqLen: prompt + 1 };
  using set = allocateParameters(backend, config, "weights", "bf16");
  using engine = new Engine({ config, backend, weights: residentWeights(set) }, {
    ...{ batchSize: 1, contextLength: prompt + 1 },
    sampling: { ...DEFAULT_SAMPLING, temperature: 0 },
  });
  for (const length of [prompt, depth]) engine.start(0, new Int32Array(length).fill(3), 0, 0);
  engine.step(1);
  assert.ok(backend.allocatedBytes < CARD_BYTES);
});
