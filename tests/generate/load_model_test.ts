// Loading model folders: mapped and converted weights are the file's, the logits follow, refusals say what was found.

import assert from "node:assert/strict";
import { join } from "node:path";
import { findNative } from "../../lib/backend/cpu/native.ts";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import type { DType } from "../../lib/core/dtype.ts";
import { FormatError, UsageError } from "../../lib/core/errors.ts";
import { elementCount, rows, type Tensor } from "../../lib/core/tensor.ts";
import { loadModel } from "../../lib/generate/load_model.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { saveWeights, type WeightSlot } from "../../lib/io/hf_weights.ts";
import { type ModelConfig, toHfConfig } from "../../lib/model/config.ts";
import type { Model } from "../../lib/model/forward.ts";
import { initializeWeights } from "../../lib/model/init.ts";
import { allocateParameters, type ParameterSet, residentWeights } from "../../lib/model/weights.ts";
import { weightSlots } from "../../lib/train/snapshot.ts";
import { inTempFolder } from "../temp_folder.ts";
import { SMALL_MODEL } from "./generating_setup.ts";

const CONFIG: ModelConfig = {
  ...SMALL_MODEL,
  vocabSize: 96,
  hiddenSize: 64,
  intermediateSize: 160,
  headDim: 16,
  maxSeqLen: 32,
};

type Stored = "f32" | "bf16" | "f16";

const DEVICES = ["cpu:native", "cpu:wasm"].map((device) => ({
  device,
  ignore: device === "cpu:native" && findNative().kind === "missing",
}));

function open(device: string): Promise<Backend> {
  return openBackend({ device, threads: 2, matmul: "f32" });
}

/** Random weights, rounded to `dtype`: written as a model folder, and returned as f32 parameters. */
async function saveModel(
  backend: Backend,
  folder: string,
  dtype: Stored,
  config = CONFIG,
): Promise<ParameterSet> {
  const exact = allocateParameters(backend, config, "parameters", "f32");
  initializeWeights(backend, config, exact, 7);
  using saved = allocateParameters(backend, config, "saved", dtype);
  saved.flats.forEach((flat, i) => {
    backend.cast(flat, exact.flats[i]);
    backend.cast(exact.flats[i], flat);
  });
  await saveWeights(backend, join(folder, "model.safetensors"), weightSlots(config, saved));
  writeConfig(folder, toHfConfig(config, "bfloat16"));
  return exact;
}

function writeConfig(folder: string, config: object): void {
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(config));
}

function logitsOf(model: Model): Promise<Float32Array> {
  return computeLogits(model, Int32Array.of(1, 5, 90, 33, 8, 2, 64));
}

function modelOf(backend: Backend, set: ParameterSet, config = CONFIG): Model {
  return { config, backend, weights: residentWeights(set) };
}

/** Largest difference, relative to the largest value. */
function difference(a: Float32Array, b: Float32Array): number {
  const largest = b.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
  return a.reduce((max, x, i) => Math.max(max, Math.abs(x - b[i])), 0) / largest;
}

async function bytesOf(backend: Backend, tensor: Tensor): Promise<number[]> {
  const parts = tensor.parts ?? [tensor];
  const read = await Promise.all(parts.map((part) => backend.read(part)));
  return read.flatMap((buffer) => [...new Uint8Array(buffer)]);
}

function allTensors(model: Model): Tensor[] {
  const { root } = model.weights;
  const layers = Array.from({ length: model.config.numLayers }, (_, layer) => layer);
  return [
    ...new Set([root.embed, root.finalNorm, root.lmHead]),
    ...layers.flatMap((layer): Tensor[] => Object.values(model.weights.acquire(layer))),
  ];
}

function inModel(
  device: string,
  dtype: Stored,
  body: (backend: Backend, folder: string, exact: ParameterSet) => Promise<void>,
  config = CONFIG,
): Promise<void> {
  return inTempFolder(async (folder) => {
    using backend = await open(device);
    using exact = await saveModel(backend, folder, dtype, config);
    const before = backend.allocatedBytes;
    await body(backend, folder, exact);
    assert.equal(backend.allocatedBytes, before);
  });
}

for (const { device, ignore } of DEVICES) {
  for (const dtype of ["f32", "bf16", "f16"] as const) {
    Deno.test({
      name: `stored ${dtype} weights on ${device}: the file's, and mapped where that is possible`,
      ignore,
      fn: () =>
        inModel(device, dtype, async (backend, folder, exact) => {
          const before = backend.allocatedBytes;
          using loaded = await loadModel(backend, folder, { weights: "stored" });
          assert.equal(loaded.isMapped, device === "cpu:native");
          assert.equal(loaded.weights, dtype);
          const fileBytes = Deno.statSync(join(folder, "model.safetensors")).size;
          const norms = 5 * CONFIG.hiddenSize;
          const matrices = allTensors(loaded.model).reduce((sum, t) =>
            sum + elementCount(t.shape), 0) -
            norms;
          const width = dtype === "f32" ? 4 : 2;
          assert.equal(loaded.weightBytes, 4 * norms + width * matrices);
          assert.ok(backend.allocatedBytes - before < fileBytes + 4 * norms + 64 * 20);
          assert.ok(
            difference(await logitsOf(loaded.model), await logitsOf(modelOf(backend, exact))) <
              1e-5,
          );
        }),
    });
  }

  Deno.test({
    name: `weights of every type on ${device} are the stored ones, converted`,
    ignore,
    fn: () =>
      inModel(device, "f32", async (backend, folder, exact) => {
        const expected = await logitsOf(modelOf(backend, exact));
        for (const weights of ["f32", "bf16", "f16", "q8_0", "q4_0"] as const) {
          using loaded = await loadModel(backend, folder, { weights });
          assert.equal(loaded.weights, weights);
          assert.equal(loaded.isMapped, device === "cpu:native" && weights === "f32");
          if (weights === "f32") assert.deepEqual(await logitsOf(loaded.model), expected);
          await checkConverted(backend, loaded.model, exact, weights);
        }
      }),
  });
}

/** Norms are f32 and exact; matrices are what the backend's own conversion makes of the whole tensor. */
async function checkConverted(
  backend: Backend,
  model: Model,
  exact: ParameterSet,
  dtype: DType,
): Promise<void> {
  const sources = allTensors(modelOf(backend, exact));
  for (const [i, tensor] of allTensors(model).entries()) {
    const source = sources[i];
    if (source.shape.length === 1) {
      assert.equal(tensor.dtype, "f32");
      assert.deepEqual(await bytesOf(backend, tensor), await bytesOf(backend, source));
      continue;
    }
    using arena = backend.allocate("expected", { matrix: { dtype, shape: source.shape } });
    const { matrix } = arena.tensors;
    if (dtype === "q8_0" || dtype === "q4_0") backend.quantize(matrix, source);
    else backend.cast(matrix, source);
    assert.deepEqual(await bytesOf(backend, tensor), await bytesOf(backend, matrix), tensor.name);
  }
}

/** Moves the tensors of a safetensors file by some bytes: spaces after its header. */
function shiftData(path: string, byteCount: number): void {
  const bytes = Deno.readFileSync(path);
  const header = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const moved = new Uint8Array(bytes.length + byteCount).fill(0x20);
  moved.set(bytes.subarray(0, header));
  moved.set(bytes.subarray(header), header + byteCount);
  new DataView(moved.buffer).setBigUint64(0, BigInt(header - 8 + byteCount), true);
  Deno.writeFileSync(path, moved);
}

Deno.test({
  name: "weights off their elements' boundaries are copied; those on them are mapped",
  ignore: DEVICES[0].ignore,
  fn: () =>
    inModel("cpu:native", "bf16", async (backend, folder, exact) => {
      const expected = await logitsOf(modelOf(backend, exact));
      for (const isMapped of [false, true]) {
        shiftData(join(folder, "model.safetensors"), 1);
        using loaded = await loadModel(backend, folder, { weights: "stored" });
        assert.equal(loaded.isMapped, isMapped);
        assert.ok(difference(await logitsOf(loaded.model), expected) < 1e-5);
      }
    }),
});

Deno.test({
  name: "shards are mapped each, and a stack of two stored types is held as f32",
  ignore: DEVICES[0].ignore,
  fn: () =>
    inModel("cpu:native", "bf16", async (backend, folder, exact) => {
      using rounded = allocateParameters(backend, CONFIG, "rounded", "bf16");
      rounded.flats.forEach((flat, i) => backend.cast(flat, exact.flats[i]));
      const slots = splitSlots(weightSlots(CONFIG, rounded));
      const [q] = splitSlots(weightSlots(CONFIG, exact)).filter(({ sources: [{ name }] }) =>
        name === "model.layers.1.self_attn.q_proj.weight"
      );
      const isQ = (slot: WeightSlot) => slot.sources[0].name === q.sources[0].name;
      const rest = slots.filter((slot) => !isQ(slot));
      const shards = { "a.safetensors": [...rest.slice(0, 9), q], "b.safetensors": rest.slice(9) };
      const weightMap: Record<string, string> = {};
      for (const [name, held] of Object.entries(shards)) {
        await saveWeights(backend, join(folder, name), held);
        for (const { sources } of held) weightMap[sources[0].name] = name;
      }
      Deno.removeSync(join(folder, "model.safetensors"));
      Deno.writeTextFileSync(
        join(folder, "model.safetensors.index.json"),
        JSON.stringify({ weight_map: weightMap }),
      );
      using loaded = await loadModel(backend, folder, { weights: "stored" });
      const [first, second] = [0, 1].map((layer) => loaded.model.weights.acquire(layer).wqkv);
      assert.deepEqual([first.dtype, first.parts?.length], ["bf16", 3]);
      assert.deepEqual([second.dtype, second.parts], ["f32", null]);
      assert.equal(loaded.isMapped, false);
      const expected = await logitsOf(modelOf(backend, exact));
      assert.ok(difference(await logitsOf(loaded.model), expected) < 1e-5);
    }),
});

/** One slot a source: stacked tensors cut into their rows. */
function splitSlots(slots: readonly WeightSlot[]): WeightSlot[] {
  return slots.flatMap(({ tensor, sources }) => {
    let row = 0;
    return sources.map((source) => {
      const begin = row;
      row += source.shape[0];
      return { tensor: rows(tensor, begin, row), sources: [source] };
    });
  });
}

Deno.test("a tied head is the embedding table, also when the file has it a second time", () => {
  const config = { ...CONFIG, tieWordEmbeddings: true };
  return inModel("cpu", "bf16", async (backend, folder, exact) => {
    const extra = { tensor: exact.root.embed, name: "lm_head.weight" };
    const source = { name: extra.name, shape: extra.tensor.shape };
    for (const more of [[], [{ tensor: extra.tensor, sources: [source] }]]) {
      const slots = [...weightSlots(config, exact), ...more];
      await saveWeights(backend, join(folder, "model.safetensors"), slots);
      using loaded = await loadModel(backend, folder, { weights: "q8_0" });
      const { root } = loaded.model.weights;
      assert.equal(root.lmHead, root.embed);
      assert.equal(root.embed.dtype, "q8_0");
    }
    writeConfig(folder, toHfConfig(CONFIG, "bfloat16"));
    await saveWeights(backend, join(folder, "model.safetensors"), weightSlots(config, exact));
    await assert.rejects(
      loadModel(backend, folder, { weights: "stored" }),
      new FormatError(`Cannot load "${folder}": it lacks tensor "lm_head.weight"`),
    );
  }, config);
});

Deno.test("rows that are no whole blocks are not quantized, by name of the tensor", () =>
  inModel("cpu", "f32", async (backend, folder) => {
    for (const weights of ["q8_0", "q4_0"] as const) {
      await assert.rejects(
        loadModel(backend, folder, { weights }),
        new UsageError(
          `Cannot load "${folder}" as ${weights}: rows of tensor "model.layers.0.mlp.down_proj.` +
            'weight" have 168 elements, expected a multiple of 32; choose f32, bf16 or f16',
        ),
      );
    }
    using loaded = await loadModel(backend, folder, { weights: "f16" });
    assert.equal(loaded.weights, "f16");
  }, { ...CONFIG, intermediateSize: 168 }));

Deno.test("says what is no Llama folder", () =>
  inModel("cpu", "f32", async (backend, folder) => {
    const path = join(folder, "config.json");
    const config = toHfConfig(CONFIG, "float32");
    const refused = (at = folder) =>
      loadModel(backend, at, { weights: "stored" }).then(
        () => assert.fail("loaded"),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          return error.message;
        },
      );
    writeConfig(folder, { ...config, model_type: "mistral" });
    assert.equal(
      await refused(),
      `Cannot read the model in "${path}": "model_type" is "mistral", expected "llama"`,
    );
    writeConfig(folder, { ...config, num_hidden_layers: 3 });
    assert.match(
      await refused(),
      /it lacks tensors "model.layers.2.input_layernorm.weight", .* and 6 more$/,
    );
    writeConfig(folder, { ...config, num_hidden_layers: 1e15 });
    assert.match(
      await refused(),
      /asks for 1000000000000000 layers, its weights are only 21 tensors/,
    );
    writeConfig(folder, { ...config, num_hidden_layers: 1 });
    assert.match(
      await refused(),
      /it has tensors "model.layers.1.input_layernorm.weight", .* no place$/,
    );
    writeConfig(folder, { ...config, vocab_size: 97 });
    assert.match(
      await refused(),
      /model.safetensors": tensor "model.embed_tokens.weight" has shape \[96, 64\], expected \[97, 64\]$/,
    );
    Deno.writeTextFileSync(path, "{");
    assert.match(await refused(), /config.json": it is not valid JSON/);
    Deno.removeSync(path);
    assert.equal(
      await refused(),
      `Cannot load a model from "${folder}": there is no "${path}", expected a Hugging Face model folder`,
    );
    const file = join(folder, "model.safetensors");
    assert.match(await refused(file), /there is no ".*model.safetensors\/config.json", expected/);
    writeConfig(folder, config);
    Deno.renameSync(file, join(folder, "pytorch_model.bin"));
    assert.match(await refused(), /has neither .* only "pytorch_model.bin", a PyTorch file/);
  }));
