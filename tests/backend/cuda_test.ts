// The CUDA backend's own promises: memory and its errors, order, replay as graphs, what is said where libraries or the card
// fall short. What the operations compute is in conformance/.

import assert from "node:assert/strict";
import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { openDevice, peakBf16Flops } from "../../lib/backend/cuda/device.ts";
import { CUDA_RESERVED } from "../../lib/backend/cuda/footprint.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { DeviceError } from "../../lib/core/errors.ts";
import { rows, type Tensor } from "../../lib/core/tensor.ts";
import { buildSimulator } from "../cuda_sim/build.ts";
import { cudaForTests } from "../cuda_sim/device.ts";

const cuda = await cudaForTests();
const simulator = await buildSimulator();

function onCuda(name: string, run: (backend: Backend) => Promise<void>): void {
  const reason = cuda.missing === null ? "" : ` (skipped: ${cuda.missing})`;
  Deno.test({
    name: `${name} on ${cuda.name}${reason}`,
    ignore: cuda.missing !== null,
    async fn() {
      using backend = cuda.open("bf16", 0);
      await run(backend);
    },
  });
}

/** Only where the libraries can be made to fail. `folder` has the stand-ins. */
function inSimulator(name: string, run: (folder: string) => Promise<void>): void {
  const reason = simulator.kind === "built" ? "" : ` (skipped: ${simulator.reason})`;
  Deno.test({
    name: `${name} in the CUDA simulator${reason}`,
    ignore: simulator.kind === "missing",
    fn: () => run(simulator.kind === "built" ? simulator.folder : ""),
  });
}

/** Runs with an environment variable set, and unsets it. */
async function withVariable(name: string, value: string, run: () => Promise<void>): Promise<void> {
  Deno.env.set(name, value);
  try {
    await run();
  } finally {
    Deno.env.delete(name);
  }
}

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;

async function floats(backend: Backend, tensor: Tensor): Promise<number[]> {
  return [...new Float32Array(await backend.read(tensor))];
}

onCuda("arenas are zeroed, named, counted and freed", async (backend) => {
  const reserved = backend.allocations(), reservedBytes = backend.allocatedBytes;
  assert.deepEqual(reserved, CUDA_RESERVED);
  for (let round = 0; round < 3; round++) {
    using arena = backend.allocate("a", { x: f32(3, 5), z: { dtype: "bf16", shape: [3] } });
    const { x, z } = arena.tensors;
    assert.equal(x.name, "a.x");
    assert.deepEqual(await floats(backend, x), new Array(15).fill(0));
    assert.deepEqual(backend.allocations(), [...reserved, { label: "a", byteLength: 512 }]);
    assert.equal(backend.allocatedBytes, reservedBytes + 512);
    backend.fill(x, -1.5);
    backend.fill(z, 1 + 2 ** -8 + 2 ** -12);
    assert.deepEqual(await floats(backend, x), new Array(15).fill(-1.5));
    assert.deepEqual([...new Uint16Array(await backend.read(z))], new Array(3).fill(0x3f81));
    assert.throws(() => backend.write(z, new Uint8Array(5)), /"a.z": got 5 bytes, expected 6/);
  }
  assert.equal(backend.allocatedBytes, reservedBytes);
});

onCuda("copies, large and small, keep the order of work", async (backend) => {
  const size = 600_000;
  using arena = backend.allocate("a", { large: f32(size), small: f32(4), other: f32(size) });
  const { large, small, other } = arena.tensors;
  const source = Float32Array.from({ length: size }, (_, i) => i);
  backend.write(large, source);
  source.fill(-1);
  const values = new Float32Array(4), reads: Promise<number[]>[] = [];
  for (let i = 0; i < 40; i++) {
    backend.write(small, values.fill(i));
    reads.push(floats(backend, small));
  }
  backend.copy(other, large);
  backend.fill(large, 0);
  const found = await Promise.all(reads);
  found.forEach((one, i) => assert.deepEqual(one, new Array(4).fill(i)));
  assert.deepEqual(await floats(backend, rows(other, size - 2, size)), [size - 2, size - 1]);
  assert.equal((await floats(backend, large))[size - 1], 0);
  assert.throws(() => backend.copy(rows(large, 0, 8), rows(large, 4, 12)), /overlap/);
});

onCuda("a megabyte more than the ring of small copies holds is written whole", async (backend) => {
  using arena = backend.allocate("a", { x: f32(20, 100_000) });
  const row = new Float32Array(100_000);
  for (let i = 0; i < 20; i++) backend.write(rows(arena.tensors.x, i, i + 1), row.fill(i));
  const found = await floats(backend, arena.tensors.x);
  assert.ok(found.every((value, at) => value === Math.floor(at / 100_000)));
});

onCuda("replay repeats what it saw on tensors' new values", async (backend) => {
  using arena = backend.allocate("a", { x: f32(1000), sum: f32(1), total: f32(1) });
  const { x, sum, total } = arena.tensors;
  let recorded = 0;
  const record = () => {
    recorded++;
    backend.sum(sum, x);
    backend.copy(total, sum);
  };
  for (const value of [1, 2, 3]) {
    backend.fill(x, value);
    backend.replay("sums", record);
    assert.deepEqual(await floats(backend, total), [1000 * value]);
  }
  assert.equal(recorded, 2);
  assert.throws(() => backend.replay("w", () => backend.write(sum, new Float32Array(1))), /replay/);
  backend.allocate("other", { y: f32(1) })[Symbol.dispose]();
  backend.replay("sums", record);
  assert.equal(recorded, 3);
  await backend.synchronize();
});

onCuda("tensors of others and of freed arenas are refused", async (backend) => {
  using other = cuda.open("f32", 0);
  using foreign = other.allocate("theirs", { x: f32(4) });
  const arena = backend.allocate("a", { x: f32(4) });
  assert.throws(() => backend.sum(arena.tensors.x, foreign.tensors.x), RangeError);
  assert.throws(() => backend.fill(foreign.tensors.x, 1), /"theirs.x": it belongs to another/);
  arena[Symbol.dispose]();
  assert.throws(() => backend.fill(arena.tensors.x, 1), /"a.x": its arena has been disposed/);
  await assert.rejects(backend.read(arena.tensors.x), DeviceError);
});

onCuda("closing a backend fails the reads that have not arrived", async (backend) => {
  using arena = backend.allocate("a", { x: f32(64) });
  const reading = backend.read(arena.tensors.x);
  backend[Symbol.dispose]();
  await assert.rejects(reading, new DeviceError("Cannot read from cuda: it was closed meanwhile"));
});

onCuda("a closed backend refuses to allocate, and closes once", (backend) => {
  backend[Symbol.dispose]();
  backend[Symbol.dispose]();
  assert.throws(() => backend.allocate("late", { x: f32(1) }), /"late": cuda .* has been closed/);
  return Promise.resolve();
});

inSimulator(
  "memory that is not there is an error that names the arena",
  (folder) =>
    withVariable("TINYLLAMA_CUDA_SIM_MEMORY", String(160 << 20), () => {
      using backend = cudaBackend(openDevice(findCuda([folder])), "f32");
      using _small = backend.allocate("activations", { x: f32(1024) });
      assert.throws(
        () => backend.allocate("weights", { x: f32(16 << 20) }),
        /"weights" on cuda \(simulator\): asked for 67108864 bytes, 104861696 bytes are in use; \d+ of the device's 167772160 bytes are free/,
      );
      using _fits = backend.allocate("gradients", { x: f32(1 << 20) });
      return Promise.resolve();
    }),
);

inSimulator(
  "a driver too old for the kernels is said to be",
  (folder) =>
    withVariable("TINYLLAMA_CUDA_SIM_PTX", "6.0", () => {
      assert.throws(
        () => cudaBackend(openDevice(findCuda([folder])), "f32"),
        /the driver, for CUDA 12.4, is too old for kernels\/dist\/\w+.ptx of PTX version 7/,
      );
      return Promise.resolve();
    }),
);

inSimulator("missing libraries are named with all that was tried", async (folder) => {
  const partial = await Deno.makeTempDir();
  try {
    const nowhere = findCuda([partial]);
    if (!cuda.isSimulated) return;
    assert.equal(nowhere.kind, "missing");
    assert.throws(() => openDevice(nowhere), (error: Error) => {
      assert.ok(error instanceof DeviceError);
      assert.match(error.message, /Cannot use cuda: no NVIDIA driver \(libcuda\); install/);
      assert.match(error.message, new RegExp(`Tried:\\n  ${partial}/libcuda.so.1: `));
      return true;
    });
    for (const name of ["libcuda.so.1", "libcudart.so.12"]) {
      await Deno.symlink(`${folder}/libcuda_sim.so`, `${partial}/${name}`);
    }
    assert.throws(
      () => openDevice(findCuda([partial])),
      /the driver \(CUDA 12.4\) is there, but not libcublasLt; .*libcublasLt.so.12: /s,
    );
  } finally {
    await Deno.remove(partial, { recursive: true });
  }
});

inSimulator(
  "a device asked for by name is opened where the variable says",
  (folder) =>
    withVariable("TINYLLAMA_CUDA_LIBRARIES", folder, async () => {
      using named = await openBackend({ device: "cuda", threads: null, matmul: "auto" });
      assert.equal(named.precision.param, "bf16");
      using automatic = await openBackend({ device: "auto", threads: null, matmul: "f32" });
      assert.equal(automatic.kind, "cuda");
      assert.equal(automatic.precision.param, "f32");
      using device = openDevice(findCuda([folder]));
      assert.equal(peakBf16Flops(device), 512 * 4 * 1e9);
    }),
);

inSimulator(
  "with TINYLLAMA_CUDA_DEBUG=1 a failure names its operation",
  (folder) =>
    withVariable("TINYLLAMA_CUDA_DEBUG", "1", async () => {
      const library = Deno.dlopen(`${folder}/libcuda_sim.so`, {
        cuda_sim_reset: { parameters: [], result: "void" },
      });
      try {
        using backend = cudaBackend(openDevice(findCuda([folder])), "f32");
        using arena = backend.allocate("a", { x: f32(64), sum: f32(1) });
        const { x, sum } = arena.tensors;
        backend.replay("twice", () => backend.sum(sum, x));
        assert.deepEqual(await floats(backend, sum), [0]);
        const beyond = { ...x, byteOffset: 1 << 30 };
        assert.throws(
          () => backend.sum(sum, beyond),
          /reduce_sum failed with 700, an illegal memory/,
        );
      } finally {
        library.symbols.cuda_sim_reset();
        library.close();
      }
    }),
);
