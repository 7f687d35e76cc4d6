// The CPU backend's memory, threads and choice of device, native and WASM. What the operations compute is in conformance/.

import assert from "node:assert/strict";
import { findNative } from "../../lib/backend/cpu/native.ts";
import { Allocator } from "../../lib/backend/cpu/allocator.ts";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { rows, stackRows, type Tensor } from "../../lib/core/tensor.ts";

const hasNative = findNative().kind === "found";
const DEVICES = ["cpu:native", "cpu:wasm", "cpu:wasm64"] as const;

function onEach(name: string, run: (open: (threads: number) => Promise<Backend>) => Promise<void>) {
  for (const device of DEVICES) {
    const ignore = device === "cpu:native" && !hasNative;
    const reason = ignore ? " (not built: deno task kernels)" : "";
    Deno.test({
      name: `${name} on ${device}${reason}`,
      ignore,
      fn: () => run((threads) => openBackend({ device, threads, matmul: "f32" })),
    });
  }
}

function ramp(count: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.7));
}

async function floats(backend: Backend, tensor: Tensor): Promise<number[]> {
  return [...new Float32Array(await backend.read(tensor))];
}

onEach("arenas are zeroed, aligned, counted and freed", async (open) => {
  using backend = await open(1);
  for (let round = 0; round < 3; round++) {
    using arena = backend.allocate("a", {
      x: { dtype: "f32", shape: [3, 5] },
      y: { dtype: "i32", shape: [1] },
    });
    const { x, y } = arena.tensors;
    assert.equal(x.name, "a.x");
    assert.equal(y.byteOffset % 64, 0);
    assert.deepEqual(await floats(backend, x), new Array(15).fill(0));
    assert.deepEqual(backend.allocations(), [{ label: "a", byteLength: arena.byteLength }]);
    backend.fill(x, 1.5);
    backend.fill(y, -7);
    assert.deepEqual(await floats(backend, x), new Array(15).fill(1.5));
    assert.deepEqual([...new Int32Array(await backend.read(y))], [-7]);
  }
  assert.equal(backend.allocatedBytes, 0);
});

onEach("write, copy and read round trip", async (open) => {
  using backend = await open(1);
  const spec = { dtype: "f32", shape: [1000] } as const;
  using arena = backend.allocate("a", { x: spec, y: spec });
  const { x, y } = arena.tensors;
  const host = ramp(1000);
  backend.write(x, host);
  host.fill(0);
  backend.copy(y, x);
  assert.deepEqual(await floats(backend, y), [...ramp(1000)]);
  assert.throws(() => backend.write(x, new Float32Array(3)), /"a.x": got 12 bytes, expected 4000/);
  assert.throws(() => backend.copy(x, x), /overlap/);
});

onEach("a disposed arena and a foreign tensor are refused", async (open) => {
  using backend = await open(1);
  using other = await open(1);
  const arena = backend.allocate("a", { x: { dtype: "f32", shape: [2] } });
  const { x } = arena.tensors;
  assert.throws(() => other.fill(x, 1), /"a.x": it belongs to another backend/);
  arena[Symbol.dispose]();
  arena[Symbol.dispose]();
  assert.throws(() => backend.fill(x, 1), /"a.x": its arena has been disposed/);
  assert.throws(() => backend.sum(x, x), /sum: out "a.x" has shape \[2\], expected \[1\]/);
  await assert.rejects(() => backend.read(x), /disposed/);
});

onEach("contexts of different thread counts compute the same at once", async (open) => {
  using one = await open(1);
  using three = await open(3);
  const sums: number[] = [];
  for (const backend of [one, three, one, three]) {
    using arena = backend.allocate("a", {
      x: { dtype: "f32", shape: [40000] },
      out: { dtype: "f32", shape: [1] },
    });
    const { x, out } = arena.tensors;
    backend.write(x, ramp(40000));
    for (let i = 0; i < 20; i++) backend.sum(out, x);
    sums.push((await floats(backend, out))[0]);
  }
  assert.ok(Math.abs(sums[0] - ramp(40000).reduce((a, b) => a + b, 0)) < 1e-2);
  assert.deepEqual(sums, new Array(4).fill(sums[0]));
});

onEach(
  "views are written, copied, filled and read without touching their neighbours",
  async (open) => {
    using backend = await open(1);
    using arena = backend.allocate("a", {
      x: { dtype: "f32", shape: [5, 3] },
      i: { dtype: "i32", shape: [4] },
      half: { dtype: "bf16", shape: [6] },
    });
    const { x, i, half } = arena.tensors;
    backend.write(rows(x, 1, 2), Float32Array.of(1, 2, 3));
    backend.copy(rows(x, 4, 5), rows(x, 1, 2));
    backend.fill(rows(x, 2, 3), 9);
    backend.write(rows(i, 1, 3), Int32Array.of(7, -8));
    assert.deepEqual(await floats(backend, x), [0, 0, 0, 1, 2, 3, 9, 9, 9, 0, 0, 0, 1, 2, 3]);
    assert.deepEqual(await floats(backend, rows(x, 2, 4)), [9, 9, 9, 0, 0, 0]);
    assert.deepEqual([...new Int32Array(await backend.read(i))], [0, 7, -8, 0]);
    assert.throws(() => backend.fill(half, 1), /Cannot fill "a.half" of bf16: expected f32 or i32/);
    assert.throws(() => backend.copy(i, x), /"a.x" of 60 bytes over "a.i" of 16/);
  },
);

onEach("a closed backend refuses to work, and closes once", async (open) => {
  const backend = await open(2);
  const { x } = backend.allocate("a", { x: { dtype: "f32", shape: [2] } }).tensors;
  backend[Symbol.dispose]();
  backend[Symbol.dispose]();
  assert.throws(() => backend.allocate("b", {}), /Cannot allocate "b": cpu:.* has been closed/);
  assert.throws(() => backend.fill(x, 1), /"a.x": its arena has been disposed/);
  assert.equal(backend.allocatedBytes, 0);
});

onEach("a stacked weight equals the plain one", async (open) => {
  using backend = await open(2);
  const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;
  using arena = backend.allocate("a", {
    weight: f32(48, 32),
    q: f32(32, 32),
    k: f32(16, 32),
    x: f32(5, 32),
    addend: f32(5, 48),
    plain: f32(5, 48),
    stacked: f32(5, 48),
  });
  const { weight, q, k, x, addend, plain, stacked } = arena.tensors;
  const values = ramp(48 * 32);
  backend.write(weight, values);
  backend.write(q, values.subarray(0, 32 * 32));
  backend.write(k, values.subarray(32 * 32));
  backend.write(x, ramp(5 * 32));
  backend.write(addend, ramp(5 * 48));
  const parts = stackRows("qk", [q, k]);
  for (const add of [null, addend]) {
    backend.linearForward(plain, x, weight, add);
    backend.linearForward(stacked, x, parts, add);
    assert.deepEqual(await floats(backend, stacked), await floats(backend, plain));
  }
  assert.notEqual((await floats(backend, plain))[7], 0);
  assert.throws(() => backend.embeddingForward(plain, x, parts), /tokens "a.x" is f32/);
  assert.throws(
    () => backend.linearForward(plain, addend, weight, null),
    /linearForward: weight "a.weight" has shape \[48, 32\], expected \[\*, 48\]/,
  );
});

onEach("memory that is not there is an error that says how much", async (open) => {
  using backend = await open(1);
  const shape = [2 ** 20, 2 ** 11];
  assert.throws(
    () => backend.allocate("big", { x: { dtype: "f32", shape } }),
    { name: "DeviceError", message: /"big.x" .* 2147483648 elements, at most 2147483647/ },
  );
  const spec = { dtype: "u8", shape: [2 ** 52] } as const;
  assert.throws(
    () => backend.allocate("big", { x: spec }),
    /"big" .* asked for 4503599627370496 bytes/,
  );
  assert.equal(backend.allocatedBytes, 0);
});

Deno.test({
  name: "a file is mapped, not copied, and is read-only",
  ignore: !hasNative,
  async fn() {
    using backend = await openBackend({ device: "cpu:native", threads: 1, matmul: "f32" });
    const path = await Deno.makeTempFile();
    await Deno.writeFile(path, new Uint8Array([1, 2, 3, 250]));
    const arena = backend.map("file", path);
    assert.ok(arena !== null);
    await Deno.remove(path);
    const { bytes } = arena.tensors;
    assert.deepEqual([...new Uint8Array(await backend.read(bytes))], [1, 2, 3, 250]);
    assert.throws(() => backend.write(bytes, new Uint8Array(4)), /read-only/);
    arena[Symbol.dispose]();
    assert.equal(backend.allocatedBytes, 0);
    assert.throws(() => backend.map("file", path), Deno.errors.NotFound);
  },
});

Deno.test("unknown devices and thread counts are refused by name", async () => {
  const open = (device: string, threads: number, matmul: "f32" | "bf16" = "f32") =>
    openBackend({ device, threads, matmul });
  await assert.rejects(() => open("tpu", 1), /device "tpu": this build has auto, cpu, cpu:native/);
  await assert.rejects(() => open("cpu", 0), /0 threads: expected a whole number from 1 to 256/);
  await assert.rejects(() => open("cpu:wasm", 2, "bf16"), /bf16 on cpu:wasm .* use f32 or auto/);
});

Deno.test("auto and cpu take the native kernels where they were built, and bf16 where the CPU has it", async () => {
  const search = findNative();
  for (const device of ["auto", "cpu"]) {
    using backend = await openBackend({ device, threads: 2, matmul: "auto" });
    if (search.kind === "missing") {
      assert.match(backend.info.name, /^cpu:wasm \(simd128, 2 threads\)$/);
    } else assert.equal(backend.info.name, `cpu:native (${search.build.isa}, 2 threads)`);
    const hasBf16 = search.kind === "found" && search.build.hasBf16;
    assert.equal(backend.precision.matmul, hasBf16 ? "bf16" : "f32");
    assert.equal(backend.precision.param, "f32");
  }
});

Deno.test("the allocator reuses and joins what was freed", () => {
  const allocator = new Allocator(10, 64 + 8 * 64);
  for (let round = 0; round < 100; round++) {
    const blocks = [100, 1, 64, 200].map((size) => allocator.allocate(size));
    assert.equal(allocator.allocate(128), null);
    for (const at of round % 2 === 0 ? blocks : blocks.toReversed()) {
      assert.ok(at !== null && at % 64 === 0);
      allocator.free(at);
    }
    const whole = allocator.allocate(8 * 64);
    assert.equal(whole, 64);
    if (whole !== null) allocator.free(whole);
  }
  assert.equal(allocator.usedBytes, 0);
  assert.equal(allocator.shortfall(9 * 64), 64);
  assert.throws(() => allocator.free(64), /not allocated/);
});
