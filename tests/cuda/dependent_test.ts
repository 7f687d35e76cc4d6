// What a decoding step launches begins before the kernel before it has ended, but for what has to wait for everything.

import assert from "node:assert/strict";
import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { openDevice } from "../../lib/backend/cuda/device.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { Engine } from "../../lib/generate/engine.ts";
import { allocateParameters, residentWeights } from "../../lib/model/weights.ts";
import { randomizeParameters } from "../bench/gpu_random.ts";
import { buildSimulator } from "../cuda_sim/build.ts";
import { GREEDY, SMALL_MODEL } from "../generate/generating_setup.ts";

const VARIABLES = { TINYLLAMA_CUDA_PDL: "1", TINYLLAMA_CUDA_SIM_CAPABILITY: "9.0" } as const;
/** Launches of a layer, and what has its own: embedding, norm, head, conversion of logits, drawing. */
const OF_LAYER = 11, OTHERS = 5;
/** A graph's first kernel, the conversion, which might write a weight, and what follows it. */
const WAITING = 3;

const build = await buildSimulator();
const reason = build.kind === "built" ? "" : ` (skipped: ${build.reason})`;

Deno.test({
  name: `a decoding step is launched early but for three of its kernels${reason}`,
  ignore: build.kind === "missing",
  async fn() {
    const folders = build.kind === "built" ? [build.folder] : [];
    const simulator = Deno.dlopen(`${folders[0]}/libcuda_sim.so`, {
      cuda_sim_dependent_launches: { parameters: [], result: "u32" },
    });
    for (const [name, value] of Object.entries(VARIABLES)) Deno.env.set(name, value);
    try {
      using backend = cudaBackend(openDevice(findCuda(folders)), "bf16");
      using set = allocateParameters(backend, SMALL_MODEL, "weights", "bf16");
      randomizeParameters(backend, set);
      const model = { config: SMALL_MODEL, backend, weights: residentWeights(set) };
      using engine = new Engine(model, { batchSize: 2, contextLength: 16, sampling: GREEDY });
      engine.step(1);
      // Not captured either: it begins while the step before draws the tokens and positions that it reads.
      engine.step(2);
      await backend.synchronize();
      const before = simulator.symbols.cuda_sim_dependent_launches();
      engine.step(1);
      const captured = simulator.symbols.cuda_sim_dependent_launches() - before;
      assert.equal(captured, SMALL_MODEL.numLayers * OF_LAYER + OTHERS - WAITING);
      await backend.synchronize();
    } finally {
      for (const name of Object.keys(VARIABLES)) Deno.env.delete(name);
      simulator.close();
    }
  },
});
