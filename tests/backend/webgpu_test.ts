// The WebGPU backend's own promises: memory and its errors, views at any word, replay, bindings beyond the adapter's limit,
// a device that is lost. What the operations compute is in conformance/.

import assert from "node:assert/strict";
import elements from "../../kernels/wgsl/elements.wgsl" with { type: "text" };
import laneSum from "../../kernels/wgsl/lane_sum_subgroups.wgsl" with { type: "text" };
import matvec from "../../kernels/wgsl/matvec.wgsl" with { type: "text" };
import matvecQuantized from "../../kernels/wgsl/matvec_quantized.wgsl" with { type: "text" };
import rowsAligned from "../../kernels/wgsl/rows_aligned.wgsl" with { type: "text" };
import weightAny from "../../kernels/wgsl/weight_any.wgsl" with { type: "text" };
import { openBackend } from "../../lib/backend/open.ts";
import { webgpuBackend } from "../../lib/backend/webgpu/backend.ts";
import { openDevice } from "../../lib/backend/webgpu/device.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { DeviceError } from "../../lib/core/errors.ts";
import { carve, reshape, rows, type Tensor } from "../../lib/core/tensor.ts";
import { inferencePlan } from "../../lib/model/activations.ts";
import { forward } from "../../lib/model/forward.ts";
import { allocateKvCache } from "../../lib/model/kv_cache.ts";
import { allocateParameters, residentWeights } from "../../lib/model/weights.ts";
import { SMALL_RUN } from "../train/training_setup.ts";
import { adapter, onWebgpu, webgpuMissing, webgpuTest } from "./webgpu_adapter.ts";

const MEBIBYTE = 1 << 20;
/** More than a process reserves at its start, and less than what it then asks for. */
const ADDRESS_KILOBYTES = 60_000_000;

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;
const i32 = (...shape: number[]) => ({ dtype: "i32", shape }) as const;

async function floats(backend: Backend, tensor: Tensor): Promise<number[]> {
  return [...new Float32Array(await backend.read(tensor))];
}

onWebgpu("arenas are zeroed, named, counted and freed", async (backend) => {
  for (let round = 0; round < 3; round++) {
    using arena = backend.allocate("a", {
      x: f32(3, 5),
      y: i32(1),
      z: { dtype: "bf16", shape: [3] },
    });
    const { x, y, z } = arena.tensors;
    assert.equal(x.name, "a.x");
    assert.deepEqual(await floats(backend, x), new Array(15).fill(0));
    assert.deepEqual(backend.allocations(), [{ label: "a", byteLength: 60 + 4 + 8 }]);
    assert.equal(backend.allocatedBytes, 72);
    backend.fill(x, -1.5);
    backend.fill(y, -7);
    backend.write(z, Uint16Array.of(1, 2, 3));
    assert.deepEqual(await floats(backend, x), new Array(15).fill(-1.5));
    assert.deepEqual([...new Int32Array(await backend.read(y))], [-7]);
    assert.deepEqual([...new Uint16Array(await backend.read(z))], [1, 2, 3]);
    assert.throws(() => backend.fill(z, 1), /"a.z" of bf16: expected f32 or i32/);
  }
  assert.equal(backend.allocatedBytes, 0);
});

onWebgpu("writes, copies and reads come in the order enqueued", async (backend) => {
  using arena = backend.allocate("a", { x: f32(70), y: f32(70), sums: f32(3) });
  const { x, y, sums } = arena.tensors;
  const host = new Float32Array(70);
  for (const round of [1, 2, 3]) {
    backend.write(x, host.fill(round));
    backend.copy(y, x);
    backend.sum(carve(sums, "sum", f32(1), 4 * (round - 1)), y);
  }
  const early = backend.read(y);
  backend.fill(y, 9);
  assert.deepEqual(new Float32Array(await early), new Float32Array(70).fill(3));
  assert.deepEqual(await floats(backend, sums), [70, 140, 210]);
  const [first, second] = await Promise.all([backend.read(x), backend.read(y)]);
  assert.equal(new Float32Array(first)[69], 3);
  assert.equal(new Float32Array(second)[69], 9);
  assert.throws(() => backend.write(x, new Float32Array(3)), /"a.x": got 12 bytes, expected 280/);
  assert.throws(() => backend.copy(x, x), /overlap/);
});

onWebgpu("views start at any word, and nothing beyond them is touched", async (backend) => {
  using arena = backend.allocate("a", {
    x: f32(9, 37),
    out: f32(9, 37),
    w: f32(37),
    total: f32(5),
  });
  const { x, out, w, total } = arena.tensors;
  backend.write(x, Float32Array.from({ length: 9 * 37 }, (_, i) => i % 37));
  backend.fill(w, 1);
  backend.fill(rows(x, 3, 5), 2);
  backend.rmsnormForward(rows(out, 3, 5), null, rows(x, 3, 5), w, 0);
  backend.copy(rows(out, 8, 9), rows(x, 1, 2));
  backend.sum(carve(total, "one", f32(1), 12), rows(x, 4, 7));
  const found = await floats(backend, out);
  assert.deepEqual(found.slice(0, 3 * 37), new Array(3 * 37).fill(0));
  for (const value of found.slice(3 * 37, 5 * 37)) assert.ok(Math.abs(value - 1) < 1e-6);
  assert.deepEqual(found.slice(5 * 37, 8 * 37), new Array(3 * 37).fill(0));
  assert.deepEqual(found.slice(8 * 37), Array.from({ length: 37 }, (_, i) => i));
  assert.deepEqual(await floats(backend, total), [0, 0, 0, 2 * 37 + 2 * 666, 0]);
});

onWebgpu("a view within a word is refused by name", async (backend) => {
  using arena = backend.allocate("a", {
    halves: { dtype: "bf16", shape: [4, 3] },
    out: f32(1, 3),
    ids: i32(1),
  });
  const odd = rows(arena.tensors.halves, 1, 2);
  await assert.rejects(
    () => backend.read(odd),
    /"a.halves": 6 bytes at byte 6 are not whole words/,
  );
  assert.throws(
    () => backend.embeddingForward(arena.tensors.out, arena.tensors.ids, odd),
    /Cannot bind "a.halves" on webgpu: it starts at byte 6, which is no whole word/,
  );
});

onWebgpu(
  "replay encodes again what it saw, and records anew once memory was freed",
  async (backend) => {
    using arena = backend.allocate("a", { x: f32(500), total: f32(1) });
    const { x, total } = arena.tensors;
    let recorded = 0;
    const step = () =>
      backend.replay("sum", () => {
        recorded++;
        backend.sum(total, x);
      });
    for (const [round, expected] of [1, 1, 1, 2, 2].entries()) {
      if (round === 3) backend.allocate("other", { y: f32(4) })[Symbol.dispose]();
      backend.fill(x, round);
      step();
      assert.deepEqual(await floats(backend, total), [500 * round]);
      assert.equal(recorded, expected);
    }
    assert.throws(
      () => backend.replay("copying", () => backend.copy(rows(x, 0, 1), total)),
      /Cannot copy inside replay/,
    );
  },
);

onWebgpu("replay survives scratch memory that grows while it records", async (backend) => {
  const C = 70_000; // more partial sums than the first scratch buffer holds
  using arena = backend.allocate("a", { x: f32(2, C), rstd: f32(2), w: f32(C), dW: f32(C) });
  const { x, rstd, w, dW } = arena.tensors;
  using gradient = backend.allocate("b", { dX: f32(2, C) });
  for (const one of [x, rstd, w]) backend.fill(one, 1);
  const small = rows(reshape(x, [4 * C / 2, 1]), 0, 40_000);
  for (let round = 1; round <= 3; round++) {
    backend.replay("backward", () => {
      backend.sum(rows(rstd, 0, 1), small);
      backend.fill(rstd, 1);
      backend.rmsnormBackward(gradient.tensors.dX, dW, x, x, w, rstd);
    });
    const sums = await floats(backend, dW);
    assert.ok(sums.every((value) => value === 2 * round), `round ${round}: ${sums[0]}`);
  }
});

onWebgpu("memory that is not there is an error that says how much", (backend) => {
  const limit = adapter?.limits.maxBufferSize ?? 0;
  assert.throws(
    () => backend.allocate("big", { x: f32(Math.floor(limit / 4) + 1) }),
    new RegExp(`"big.x" on webgpu: asked for \\d+ bytes, .* has buffers of at most ${limit}`),
  );
  assert.equal(backend.allocatedBytes, 0);
});

webgpuTest("a sequence beyond a binding is an error that names it and the limit", async () => {
  const gpu = await openDevice();
  const limits = { ...gpu.adapter.limits, maxStorageBufferBindingSize: 2 ** 16 };
  using backend = await webgpuBackend({ ...gpu, adapter: { ...gpu.adapter, limits } });
  const B = 2, T = 40, S = 300, H = 2, D = 64;
  using arena = backend.allocate("a", {
    out: f32(B, S, H, D),
    qkv: f32(B, S, H + 2, D),
    someOut: f32(B, T, H, D),
    someQkv: f32(B, T, H + 2, D),
    keys: f32(B, 1, S, D),
    values: f32(B, 1, S, D),
    positions: i32(B, T),
  });
  const { out, qkv, someOut, someQkv, keys, values, positions } = arena.tensors;
  const refused = (name: string) =>
    new RegExp(
      `Cannot bind "${name}" on webgpu: \\d+ bytes that belong together, .* at most 65536`,
    );
  assert.throws(() => backend.attentionForward(out, null, qkv), refused("a.(out|qkv)"));
  assert.throws(
    () => backend.attentionCached(someOut, someQkv, keys, values, positions),
    refused("a.keys"),
  );
  await backend.synchronize();
});

Deno.test({
  name: "memory that the device finds missing later is an error at the next wait on webgpu",
  // Buffers of a software adapter are the process's memory, which a shell can limit.
  ignore: webgpuMissing !== null || !adapter?.isSoftware || Deno.build.os !== "linux",
  async fn() {
    const script = import.meta.resolve("./webgpu_exhausted.ts");
    const command = `ulimit -v ${ADDRESS_KILOBYTES} && exec "$0" run -A "${script}"`;
    const child = new Deno.Command("sh", { args: ["-c", command, Deno.execPath()] });
    const { code, stdout, stderr } = await child.output();
    const text = new TextDecoder().decode(stdout);
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.match(
      text,
      /^DeviceError: Cannot allocate "round \d+" on webgpu \(.*\): \d+ bytes were asked for, \d+ bytes are in use; .+/,
    );
  },
});

onWebgpu("foreign and disposed tensors are refused", async (backend) => {
  using other = await openBackend({ device: "cpu", threads: 1, matmul: "f32" });
  using foreign = other.allocate("cpu", { x: f32(1) });
  const arena = backend.allocate("a", { x: f32(1) });
  const { x } = arena.tensors;
  assert.throws(() => backend.sum(x, foreign.tensors.x), /"cpu.x": it belongs to another backend/);
  arena[Symbol.dispose]();
  arena[Symbol.dispose]();
  assert.throws(() => backend.sum(x, x), /"a.x": its arena has been disposed/);
  await assert.rejects(() => backend.read(x), /disposed/);
});

webgpuTest("a lost device is an error at the next read", async () => {
  const gpu = await openDevice();
  using backend = await webgpuBackend(gpu);
  using arena = backend.allocate("a", { x: f32(64) });
  backend.fill(arena.tensors.x, 1);
  gpu.device.destroy();
  await gpu.device.lost;
  await assert.rejects(
    () => backend.read(arena.tensors.x),
    (error) =>
      error instanceof DeviceError && /webgpu \(.*\): the device was lost/.test(error.message),
  );
});

webgpuTest(
  "a device that cannot say whether it has memory is an error at the next wait, and nothing else",
  async () => {
    const gpu = await openDevice();
    using backend = await webgpuBackend(gpu);
    // As browsers do once the device is lost.
    gpu.device.popErrorScope = () => Promise.reject(new DOMException("lost", "OperationError"));
    using _arena = backend.allocate("a", { x: f32(64) });
    // An unhandled rejection, which would come meanwhile, fails the test.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await assert.rejects(
      () => backend.synchronize(),
      (error) => error instanceof DeviceError && /Cannot allocate "a".*lost/.test(error.message),
    );
  },
);

webgpuTest("kernels with subgroup operations are valid but for a missing feature", async () => {
  using gpu = await openDevice();
  const code = [rowsAligned, elements, weightAny, laneSum, matvec, matvecQuantized].join("\n");
  gpu.device.pushErrorScope("validation");
  const module = gpu.device.createShaderModule({ code });
  const refusal = await gpu.device.popErrorScope();
  const { messages } = await module.getCompilationInfo();
  if (gpu.device.features.has("subgroups")) assert.deepEqual(messages, []);
  else assert.match(refusal?.message ?? "", /requires capability Capabilities\(SUBGROUP\)$/);
});

onWebgpu("models and caches of 100 rounds are given back", async (backend) => {
  const { model } = SMALL_RUN;
  let before = 0;
  for (let round = 0; round < 100; round++) {
    using params = allocateParameters(backend, model, "parameters", "f32");
    using plan = inferencePlan(backend, model, 8, model.maxSeqLen);
    using cache = allocateKvCache(backend, model, 300, model.maxSeqLen);
    using ids = backend.allocate("ids", { tokens: i32(8) });
    const acts = plan.at(1, 8);
    const step = () =>
      forward(
        { config: model, backend, weights: residentWeights(params) },
        ids.tensors.tokens,
        acts,
        { ...cache, keys: cache.keys.map(first), values: cache.values.map(first) },
      );
    backend.replay(`round ${round}`, step);
    await backend.read(acts.hidden);
    if (round === 10) before = Deno.memoryUsage().rss;
  }
  assert.equal(backend.allocatedBytes, 0);
  assert.deepEqual(backend.allocations(), []);
  // A round takes 2.5 MB; a software adapter's memory is the process's.
  const grown = Deno.memoryUsage().rss - before;
  assert.ok(grown < 60 * MEBIBYTE, `the process grew by ${grown} bytes`);
});

/** The cache of the first sequence. */
function first(tensor: Tensor): Tensor {
  return rows(tensor, 0, 1);
}

Deno.test("bf16 products are refused with what to use", async () => {
  await assert.rejects(
    () => openBackend({ device: "webgpu", threads: null, matmul: "bf16" }),
    /Cannot multiply in bf16 on webgpu: it multiplies in f32; use f32 or auto/,
  );
});

Deno.test("auto takes no adapter that is software", async () => {
  using backend = await openBackend({ device: "auto", threads: 1, matmul: "f32" });
  const isHardware = adapter !== null && !adapter.isSoftware;
  assert.equal(backend.kind, isHardware ? "webgpu" : "cpu");
});
