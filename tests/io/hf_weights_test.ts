// Weights between tensors and files: round trips, conversions on the device, shards, and every message about what a
// folder lacks or has too much.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { byteLengthOf, type DType } from "../../lib/core/dtype.ts";
import { FormatError } from "../../lib/core/errors.ts";
import { elementCount, rows, type Tensor } from "../../lib/core/tensor.ts";
import { loadWeights, saveWeights, type WeightSlot } from "../../lib/io/hf_weights.ts";
import { openWeightFiles } from "../../lib/io/weight_files.ts";
import { inTempFolder } from "../temp_folder.ts";
import { fileOf } from "./safetensors_bytes.ts";

function withBackend(body: (backend: Backend, folder: string) => Promise<void>) {
  return () =>
    inTempFolder(async (folder) => {
      using backend = await openBackend({ device: "cpu", threads: 2, matmul: "f32" });
      await body(backend, folder);
      assert.equal(backend.allocatedBytes, 0);
    });
}

/** Slots as a layer has them: one stacked, one vector. The names of their sources begin with `prefix`. */
function slotsIn(tensors: Readonly<Record<"qk" | "norm", Tensor>>, prefix = ""): WeightSlot[] {
  return [
    {
      tensor: tensors.qk,
      sources: [{ name: `${prefix}q`, shape: [4, 64] }, { name: `${prefix}k`, shape: [2, 64] }],
    },
    { tensor: tensors.norm, sources: [{ name: `${prefix}norm`, shape: [64] }] },
  ];
}

function allocateSlots(backend: Backend, qk: DType, norm: DType) {
  return backend.allocate("weights", {
    qk: { dtype: qk, shape: [6, 64] },
    norm: { dtype: norm, shape: [64] },
  });
}

/** Numbers with few bits, so that every float type holds them exactly. */
function plainNumbers(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => (i * 37 % 255 - 127) / 64);
}

/** Saves a layer of plain numbers in this dtype under `name` and returns the path. */
async function saveLayer(
  backend: Backend,
  folder: string,
  dtype: "f32" | "bf16" | "f16",
  name = "model.safetensors",
): Promise<string> {
  using exact = allocateSlots(backend, "f32", "f32");
  using saved = allocateSlots(backend, dtype, dtype);
  for (const key of ["qk", "norm"] as const) {
    backend.write(exact.tensors[key], plainNumbers(elementCount(exact.tensors[key].shape)));
    backend.cast(saved.tensors[key], exact.tensors[key]);
  }
  await saveWeights(backend, join(folder, name), slotsIn(saved.tensors));
  return join(folder, name);
}

async function floats(backend: Backend, tensor: Tensor): Promise<number[]> {
  using arena = backend.allocate("copy", { f32: { dtype: "f32", shape: tensor.shape } });
  backend.cast(arena.tensors.f32, tensor);
  return [...new Float32Array(await backend.read(arena.tensors.f32))];
}

async function refusal(backend: Backend, path: string, prefix = ""): Promise<string> {
  using target = allocateSlots(backend, "f32", "f32");
  return await loadWeights(backend, path, slotsIn(target.tensors, prefix)).then(
    () => "loaded",
    (error: unknown) => {
      assert.ok(error instanceof FormatError, String(error));
      return error.message;
    },
  );
}

for (const stored of ["f32", "bf16", "f16"] as const) {
  for (const held of ["f32", "bf16", "f16"] as const) {
    Deno.test(
      `weights saved as ${stored} load as ${held}`,
      withBackend(async (backend, folder) => {
        await saveLayer(backend, folder, stored);
        using loaded = allocateSlots(backend, held, "f32");
        await loadWeights(backend, folder, slotsIn(loaded.tensors));
        assert.deepEqual(await floats(backend, loaded.tensors.qk), [...plainNumbers(6 * 64)]);
        assert.deepEqual(await floats(backend, loaded.tensors.norm), [...plainNumbers(64)]);
      }),
    );
  }
}

Deno.test(
  "a saved file has one tensor a source, in order, and its size is that of its elements",
  withBackend(async (backend, folder) => {
    const path = await saveLayer(backend, folder, "bf16");
    using files = openWeightFiles(path);
    assert.deepEqual(
      Array.from(files.tensors.values(), ({ tensor }) => [tensor.name, tensor.dtype, tensor.shape]),
      [["q", "BF16", [4, 64]], ["k", "BF16", [2, 64]], ["norm", "BF16", [64]]],
    );
    const { q, k } = { q: files.tensors.get("q"), k: files.tensors.get("k") };
    assert.equal(k?.tensor.byteOffset, (q?.tensor.byteOffset ?? 0) + 512);
  }),
);

for (const dtype of ["q8_0", "q4_0"] as const) {
  Deno.test(
    `a matrix larger than the staging buffer is quantized to ${dtype} as in one piece`,
    withBackend(async (backend, folder) => {
      const shape = [2600, 2048], path = join(folder, "large.safetensors");
      const slot = (tensor: Tensor) => [{ tensor, sources: [{ name: "w", shape }] }];
      using whole = backend.allocate("whole", {
        f32: { dtype: "f32", shape },
        quantized: { dtype, shape },
      });
      const values = new Float32Array(elementCount(shape));
      for (let i = 0; i < values.length; i++) values[i] = i * 7919 % 4099 / 4099 - 0.5;
      backend.write(whole.tensors.f32, values);
      backend.quantize(whole.tensors.quantized, whole.tensors.f32);
      await saveWeights(backend, path, slot(whole.tensors.f32));
      using loaded = backend.allocate("loaded", { quantized: { dtype, shape } });
      await loadWeights(backend, path, slot(loaded.tensors.quantized));
      const expected = new Uint8Array(await backend.read(whole.tensors.quantized));
      assert.equal(expected.length, byteLengthOf(dtype, elementCount(shape)));
      assert.ok(
        Buffer.from(await backend.read(loaded.tensors.quantized)).equals(expected),
        "the bytes differ",
      );
    }),
  );
}

Deno.test(
  "shards with an index are one model",
  withBackend(async (backend, folder) => {
    using saved = allocateSlots(backend, "f32", "f32");
    backend.write(saved.tensors.qk, plainNumbers(6 * 64));
    backend.write(saved.tensors.norm, plainNumbers(64));
    const [qk, norm] = slotsIn(saved.tensors);
    const parts = [{ tensor: rows(qk.tensor, 0, 4), sources: [qk.sources[0]] }, norm];
    const rest = [{ tensor: rows(qk.tensor, 4, 6), sources: [qk.sources[1]] }];
    await saveWeights(backend, join(folder, "model-00001-of-00002.safetensors"), parts);
    await saveWeights(backend, join(folder, "model-00002-of-00002.safetensors"), rest);
    const map = {
      q: "model-00001-of-00002.safetensors",
      k: "model-00002-of-00002.safetensors",
      norm: "model-00001-of-00002.safetensors",
    };
    const index = join(folder, "model.safetensors.index.json");
    const writeIndex = (weight_map: object) =>
      Deno.writeTextFileSync(index, JSON.stringify({ metadata: { total_size: 1792 }, weight_map }));
    writeIndex(map);
    using loaded = allocateSlots(backend, "f32", "f32");
    await loadWeights(backend, folder, slotsIn(loaded.tensors));
    assert.deepEqual(await floats(backend, loaded.tensors.qk), [...plainNumbers(6 * 64)]);
    assert.deepEqual(await floats(backend, loaded.tensors.norm), [...plainNumbers(64)]);

    writeIndex({ ...map, k: map.q });
    assert.equal(
      await refusal(backend, folder),
      `Cannot read "${index}": "${map.q}" has no tensor "k"`,
    );
    writeIndex({ ...map, k: "model-00003-of-00003.safetensors" });
    assert.equal(
      await refusal(backend, folder),
      `Cannot read "${join(folder, "model-00003-of-00003.safetensors")}": there is no such file`,
    );
    writeIndex({ ...map, k: "../elsewhere.safetensors" });
    assert.equal(
      await refusal(backend, folder),
      `Cannot read "${index}": the file of tensor "k" is "../elsewhere.safetensors", ` +
        "expected the name of a .safetensors file beside it",
    );
    writeIndex({ ...map, k: [map.q] });
    assert.match(await refusal(backend, folder), /the file of tensor "k" is no text, expected/);
    writeIndex({});
    assert.match(await refusal(backend, folder), /index.json": it has no "weight_map", expected/);
    Deno.writeTextFileSync(index, '{"weight_map":');
    assert.match(await refusal(backend, folder), /index.json": it is not valid JSON \(/);
    await saveWeights(backend, join(folder, "model-00002-of-00002.safetensors"), [qk]);
    writeIndex(map);
    assert.match(await refusal(backend, folder), /tensor "q" is in ".*00001.*" as well$/);
  }),
);

Deno.test(
  "says what a model lacks and what it has too much",
  withBackend(async (backend, folder) => {
    const path = await saveLayer(backend, folder, "f32");
    assert.equal(await refusal(backend, path), "loaded");
    assert.equal(
      await refusal(backend, path, "model."),
      `Cannot load "${path}": it lacks tensors "model.q", "model.k", "model.norm"; ` +
        'unexpected are tensors "q", "k", "norm"',
    );
    const f32 = { dtype: "F32", shape: [1] };
    const header = (more: object) => {
      const tensors: Record<string, object> = {
        q: { ...f32, shape: [4, 64] },
        k: { ...f32, shape: [2, 64] },
        norm: { ...f32, shape: [64] },
        ...more,
      };
      let end = 0;
      for (const [name, found] of Object.entries(tensors)) {
        const { dtype, shape } = { ...f32, ...found };
        const begin = end;
        end += elementCount(shape) * Number(/\d+$/.exec(dtype)?.[0] ?? 8) / 8;
        tensors[name] = { ...found, data_offsets: [begin, end] };
      }
      Deno.writeFileSync(path, fileOf(tensors, end));
    };
    header({ "lm_head.weight": f32, "model.layers.0.self_attn.rotary_emb.inv_freq": f32 });
    assert.equal(await refusal(backend, path), "loaded");
    header({ a: f32, b: f32, c: f32, d: f32, e: f32 });
    assert.equal(
      await refusal(backend, path),
      `Cannot load "${path}": it has tensors "a", "b", "c" and 2 more, for which the model has no ` +
        "place",
    );
    header({ norm: { ...f32, shape: [65] } });
    assert.equal(
      await refusal(backend, path),
      `Cannot load "${path}": tensor "norm" has shape [65], expected [64]`,
    );
    header({ q: { ...f32, shape: [64, 4] } });
    assert.equal(
      await refusal(backend, path),
      `Cannot load "${path}": tensor "q" has shape [64, 4], expected [4, 64]`,
    );
    header({ k: { dtype: "I64", shape: [2, 64] } });
    assert.equal(
      await refusal(backend, path),
      `Cannot load "${path}": tensor "k" is stored as I64, expected F32, BF16 or F16`,
    );
  }),
);

Deno.test(
  "nothing is overwritten by a file that is refused",
  withBackend(async (backend, folder) => {
    const path = await saveLayer(backend, folder, "f32");
    Deno.truncateSync(path, Deno.statSync(path).size - 1);
    using target = allocateSlots(backend, "f32", "f32");
    backend.fill(target.tensors.qk, 7);
    await assert.rejects(loadWeights(backend, path, slotsIn(target.tensors)), /it is cut off/);
    assert.deepEqual(await floats(backend, target.tensors.qk), new Array(6 * 64).fill(7));
  }),
);

Deno.test(
  "quantized tensors are not saved",
  withBackend(async (backend, folder) => {
    using target = allocateSlots(backend, "q8_0", "f32");
    await assert.rejects(
      saveWeights(backend, join(folder, "a.safetensors"), slotsIn(target.tensors)),
      new TypeError('Cannot save "weights.qk" of q8_0: expected f32, bf16 or f16'),
    );
  }),
);

Deno.test("says what a folder without safetensors has instead, and what to do", () =>
  inTempFolder((folder) => {
    const start = `Cannot load weights from "${folder}": it has neither model.safetensors nor ` +
      "model.safetensors.index.json";
    const refused = (): string => {
      try {
        openWeightFiles(folder)[Symbol.dispose]();
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        return error.message;
      }
      return "opened";
    };
    assert.equal(refused(), `${start}; found nothing`);
    for (const name of "hgfedcba") Deno.writeTextFileSync(join(folder, name), "");
    assert.equal(refused(), `${start}; found "a", "b", "c", "d", "e", "f", ...`);
    Deno.writeTextFileSync(join(folder, "adapter_model.safetensors"), "");
    assert.match(refused(), /only "adapter_model.safetensors", an adapter. Merge it .* peft: \S+/);
    Deno.writeTextFileSync(join(folder, "pytorch_model-00001-of-00002.bin"), "");
    assert.match(
      refused(),
      /only "pytorch_model-00001-of-00002.bin", a PyTorch file .* Convert it/,
    );
    const nowhere = join(folder, "nowhere");
    assert.throws(
      () => openWeightFiles(nowhere),
      new FormatError(`Cannot load weights from "${nowhere}": there is no such file or folder`),
    );
  }));
