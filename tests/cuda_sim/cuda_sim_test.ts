// The simulator finds what it is there to find: kernels with one mistake each, launches beyond a card's limits, wrong
// arguments. And it computes what a card does where there is none.

import assert from "node:assert/strict";
import {
  CudaLauncher,
  type Extent,
  f32,
  i32,
  type KernelArg,
} from "../../lib/backend/cuda/context.ts";
import { openDevice } from "../../lib/backend/cuda/device.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { CudaMemory } from "../../lib/backend/cuda/memory.ts";
import { CudaStream } from "../../lib/backend/cuda/stream.ts";
import type { Arena } from "../../lib/core/backend.ts";
import { rows, type Tensor } from "../../lib/core/tensor.ts";
import { encode } from "../reference/quantize.ts";
import { accessesOf, complaints } from "./access_report.ts";
import { buildSimulator, translate } from "./build.ts";

/** Names of faults.cu and how many parameters each has. */
const ENTRIES = {
  double_in_place: 2,
  add_scaled: 4,
  reads_beyond: 3,
  writes_null: 1,
  reads_askew: 2,
  block_sum: 3,
  shifts: 3,
  reverses: 3,
  passes_on: 3,
  accumulates: 2,
  counts_threads: 1,
  reads_unset_shared: 1,
  hangs: 1,
  bounded: 1,
  warp_sum: 2,
  copies: 3,
  sums_tiles: 3,
  changes_source: 2,
  product: 3,
  gathers: 4,
} as const;
type Name = keyof typeof ENTRIES;

const PTX = `.version 7.0\n.target sm_80\n${
  Object.entries(ENTRIES).map(([name, count]) =>
    `.visible .entry ${name}(\n${
      Array.from({ length: count }, (_, i) => `.param .u64 ${name}_param_${i}`).join(",\n")
    }\n)\n{\n}\n`
  ).join("")
}`;

const folder = decodeURIComponent(new URL("./faults", import.meta.url).pathname);
const build = await buildSimulator(folder);

interface Simulated {
  readonly memory: CudaMemory;
  readonly arena: Arena<"x" | "y">;
  launch(name: Name, grid: Extent, block: Extent, shared: number, args: readonly KernelArg[]): void;
  floats(tensor: Tensor): Promise<number[]>;
}

/** One test. With a seed other than 0 blocks and threads run in another order. */
function simulated(name: string, run: (device: Simulated) => Promise<void>, seed = 0): void {
  const reason = build.kind === "missing" ? ` (skipped: ${build.reason})` : "";
  Deno.test({
    name: `CUDA simulator: ${name}${reason}`,
    ignore: build.kind === "missing",
    async fn() {
      const folders = build.kind === "built" ? [build.folder] : [];
      const simulator = Deno.dlopen(`${folders[0]}/libcuda_sim.so`, {
        cuda_sim_reset: { parameters: [], result: "void" },
      });
      using device = openDevice(findCuda(folders));
      Deno.env.set("TINYLLAMA_CUDA_SIM_SHUFFLE", String(seed));
      using stream = new CudaStream(device);
      Deno.env.delete("TINYLLAMA_CUDA_SIM_SHUFFLE");
      using memory = new CudaMemory(device, stream);
      const matmul = "f32";
      const precision = {
        param: matmul,
        compute: matmul,
        grad: matmul,
        master: null,
        matmul,
      } as const;
      using launcher = new CudaLauncher(device, memory, stream, precision);
      const names: Name[] = [];
      for (const one in ENTRIES) if (isName(one)) names.push(one);
      const kernels = launcher.load("faults", PTX, names);
      using arena = memory.allocate("test", {
        x: { dtype: "f32", shape: [64] },
        y: { dtype: "f32", shape: [256] },
      });
      memory.write(arena.tensors.x, Float32Array.from({ length: 64 }, (_, i) => i));
      try {
        await run({
          memory,
          arena,
          launch: (one, ...rest) => launcher.launch(kernels[one], ...rest),
          floats: async (tensor) => [...new Float32Array(await memory.read(tensor))],
        });
      } finally {
        simulator.symbols.cuda_sim_reset();
        simulator.close();
      }
    },
  });
}

function isName(name: string): name is Name {
  return name in ENTRIES;
}

const ONE: Extent = [1, 1, 1], WARP: Extent = [32, 1, 1], BLOCK: Extent = [64, 1, 1];

simulated("kernels compute, in order, with arguments of every kind", async (cuda) => {
  const { x, y } = cuda.arena.tensors;
  cuda.launch("double_in_place", [2, 1, 1], WARP, 0, [x, i32(63)]);
  cuda.launch("add_scaled", [2, 1, 1], WARP, 0, [y, x, f32(0.5), i32(64)]);
  const expected = Array.from({ length: 64 }, (_, i) => i === 63 ? 31.5 : i);
  assert.deepEqual((await cuda.floats(y)).slice(0, 64), expected);
  cuda.launch("double_in_place", [0, 1, 1], WARP, 0, [x, i32(63)]);
  cuda.launch("warp_sum", ONE, BLOCK, 0, [y, y]);
  assert.deepEqual((await cuda.floats(y)).slice(0, 2), [496, 31.5 + 31 * 47]);
});

for (const seed of [0, 1, 2]) {
  simulated(`barriers order memory, threads in order ${seed}`, async (cuda) => {
    const { x, y } = cuda.arena.tensors;
    cuda.launch("block_sum", ONE, BLOCK, 0, [y, x, i32(1)]);
    assert.equal((await cuda.floats(y))[0], 2016);
    cuda.launch("shifts", ONE, BLOCK, 0, [y, x, i32(1)]);
    assert.deepEqual((await cuda.floats(y)).slice(62, 64), [63, 0]);
    cuda.launch("reverses", ONE, BLOCK, 0, [y, x, i32(1)]);
    assert.deepEqual((await cuda.floats(y)).slice(31, 34), [0, 63, 62]);
    cuda.launch("sums_tiles", ONE, BLOCK, 0, [y, x, i32(1)]);
    assert.deepEqual((await cuda.floats(y)).slice(57, 61), [238, 242, 246, 186]);
    cuda.launch("passes_on", ONE, BLOCK, 0, [y, x, i32(1)]);
    assert.deepEqual((await cuda.floats(y)).slice(62, 65), [62, 63, 1]);
    cuda.memory.fill(y, 0);
    cuda.launch("counts_threads", [3, 2, 1], BLOCK, 0, [y]);
    assert.equal(new Uint32Array(await cuda.memory.read(y))[0], 384);
  }, seed);
}

simulated("asynchronous copies land when they are waited for", async (cuda) => {
  const { x, y } = cuda.arena.tensors;
  cuda.launch("copies", ONE, [16, 1, 1], 256, [y, x, i32(1)]);
  assert.deepEqual((await cuda.floats(y)).slice(0, 64), await cuda.floats(x));
});

simulated("matrix fragments are laid out as the PTX manual has them", async (cuda) => {
  const a = Float64Array.from({ length: 256 }, (_, i) => (i * 7 % 23) - 11);
  const b = Float64Array.from({ length: 128 }, (_, i) => (i * 5 % 19) - 9);
  using arena = cuda.memory.allocate("product", {
    a: { dtype: "bf16", shape: [16, 16] },
    b: { dtype: "bf16", shape: [16, 8] },
  });
  cuda.memory.write(arena.tensors.a, encode(a, "bf16"));
  cuda.memory.write(arena.tensors.b, encode(b, "bf16"));
  const { y } = cuda.arena.tensors;
  cuda.launch("product", ONE, WARP, 0, [y, arena.tensors.a, arena.tensors.b]);
  const expected = Array.from({ length: 128 }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < 16; k++) sum += a[(i >> 3) * 16 + k] * b[k * 8 + i % 8];
    return sum;
  });
  assert.deepEqual((await cuda.floats(y)).slice(0, 128), expected);
});

simulated("accesses are counted by warp, sector and bank", async (cuda) => {
  const { x, y } = cuda.arena.tensors;
  cuda.memory.fill(y, 1);
  const limits = { bytes: 2 * 128 };
  const launched = (stride: number, apart: number, block: Extent) =>
    accessesOf(async () => {
      cuda.launch("gathers", ONE, block, 0, [x, y, i32(stride), i32(apart)]);
      await cuda.floats(x);
    });
  assert.deepEqual(complaints(await launched(1, 1, WARP), limits), []);
  assert.deepEqual(complaints(await launched(8, 1, WARP), limits), [
    "0.222 of the sectors is needed, expected 0.95",
    "1152 bytes of memory are touched, expected 256",
    "1152 bytes are asked for, expected 256",
  ]);
  assert.deepEqual(complaints(await launched(1, 32, WARP), limits), [
    "32 words of one bank at once, expected 2",
  ]);
  assert.deepEqual(
    (await launched(0, 1, WARP))[0].operands.map(({ index, loads, stores }) => ({
      ...{ index, loaded: loads.needed, moved: loads.moved, stored: stores.moved },
      widths: { ...loads.widths, ...stores.widths },
    })),
    [
      { index: 0, loaded: 0, moved: 0, stored: 128, widths: { "4": 32 } },
      { index: 1, loaded: 4, moved: 32, stored: 0, widths: { "4": 32 } },
    ],
  );
  const half = await launched(1, 2, [16, 1, 1]);
  assert.deepEqual(complaints(half, { bytes: 2 * 64 }), []);
});

simulated("asynchronous copies are counted", async (cuda) => {
  const { x, y } = cuda.arena.tensors;
  const launches = await accessesOf(async () => {
    cuda.launch("copies", ONE, [16, 1, 1], 256, [y, x, i32(1)]);
    await cuda.floats(y);
  });
  assert.deepEqual(launches[0].operands.map(({ loads }) => loads.needed), [0, 256]);
});

/** Each mistake, and what is said of it. */
const MISTAKES: Readonly<Record<string, readonly [RegExp, (cuda: Simulated) => void]>> = {
  "reading beyond an allocation": [
    /reads_beyond, block \(0, 0, 0\), thread \(0, 0, 0\): out-of-bounds read of 4 bytes at byte 1280/,
    (cuda) => cuda.launch("reads_beyond", ONE, ONE, 0, [cuda.arena.tensors.y, last(cuda), i32(9)]),
  ],
  "a null pointer": [
    /writes_null.*write through a null pointer/,
    (cuda) => cuda.launch("writes_null", ONE, ONE, 0, [null]),
  ],
  "a misaligned access": [
    /716, misaligned address \(.*reads_askew.*read of 16 bytes/,
    ({ launch, arena: { tensors: { x, y } } }) => launch("reads_askew", ONE, ONE, 0, [y, x]),
  ],
  "a missing barrier between writing and reading": [
    /block_sum.*(race in|uninitialised) shared memory/,
    (cuda) => launchFaulty(cuda, "block_sum"),
  ],
  "a missing barrier between reading and writing": [
    /shifts.*race in shared memory: (write of byte \d+ that another thread read|read of byte \d+ that thread \d+ wrote) with no barrier/,
    (cuda) => launchFaulty(cuda, "shifts"),
  ],
  "a missing barrier of a warp": [
    /reverses.*(race in|uninitialised) shared memory/,
    (cuda) => launchFaulty(cuda, "reverses"),
  ],
  "a missing barrier at the end of a turn": [
    /sums_tiles.*race in shared memory: (asynchronous copy to byte \d+ that another thread read with no barrier|read of byte \d+ that an asynchronous copy of thread \d+ is on its way to)/,
    (cuda) => launchFaulty(cuda, "sums_tiles"),
  ],
  "a missing barrier between writing and reading device memory": [
    /passes_on.*race in device memory: (read|write) at byte \d+ of an allocation of 1280 bytes that thread \d+ wrote with no barrier/,
    (cuda) => launchFaulty(cuda, "passes_on"),
  ],
  "blocks that add to one number": [
    /accumulates, block \(\d, .*race in device memory: (read|write) at byte 256 .* that another block wrote/,
    ({ launch, arena: { tensors: { x, y } } }) =>
      launch("accumulates", [2, 1, 1], BLOCK, 0, [y, x]),
  ],
  "shared memory that was never set": [
    /reads_unset_shared.*read of uninitialised shared memory at byte 0/,
    (cuda) => cuda.launch("reads_unset_shared", ONE, ONE, 0, [cuda.arena.tensors.y]),
  ],
  "a copy read too soon": [
    /copies.*read of byte \d+ that an asynchronous copy of thread \d+ is on its way to/,
    ({ launch, arena: { tensors: { x, y } } }) =>
      launch("copies", ONE, [16, 1, 1], 256, [y, x, i32(0)]),
  ],
  "a copy's source that changes meanwhile": [
    /changes_source.*the source of an asynchronous copy was changed/,
    ({ launch, arena: { tensors: { x, y } } }) => launch("changes_source", ONE, ONE, 0, [y, x]),
  ],
  "dynamic shared memory that is too short": [
    /copies.*out-of-bounds asynchronous copy at byte 240 of 240 bytes of shared memory/,
    ({ launch, arena: { tensors: { x, y } } }) =>
      launch("copies", ONE, [16, 1, 1], 240, [y, x, i32(1)]),
  ],
  "lanes that never come": [
    /hangs: 16 of 32 threads stand at __syncthreads/,
    (cuda) => cuda.launch("hangs", ONE, WARP, 0, [cuda.arena.tensors.y]),
  ],
  "uninitialised device memory": [
    /add_scaled.*read of uninitialised device memory at byte 0/,
    (cuda) => {
      const fresh = cuda.memory.reserve({ label: "fresh", byteLength: 256 });
      cuda.launch("add_scaled", ONE, ONE, 0, [cuda.arena.tensors.y, fresh, f32(1), i32(1)]);
    },
  ],
};

/** A kernel of 64 threads without the barriers that its last argument stands for. */
function launchFaulty({ launch, arena }: Simulated, name: Name): void {
  const { x, y } = arena.tensors;
  launch(name, ONE, BLOCK, 0, [y, x, i32(0)]);
}

/** The last element of the arena, as a tensor. */
function last({ arena }: Simulated): Tensor {
  return { ...rows(arena.tensors.y, 255, 256), byteOffset: arena.tensors.y.byteOffset + 1024 };
}

for (const [name, [message, launch]] of Object.entries(MISTAKES)) {
  for (const seed of [0, 1]) {
    const where = seed === 0 ? "" : ` with threads in order ${seed}`;
    simulated(`${name} is found${where}`, async (cuda) => {
      launch(cuda);
      await assert.rejects(cuda.floats(cuda.arena.tensors.y), message);
    }, seed);
  }
}

simulated("launches beyond the limits are refused", (cuda) => {
  const { x, y } = cuda.arena.tensors;
  const refused = (message: RegExp, ...launch: Parameters<Simulated["launch"]>) =>
    assert.throws(() => cuda.launch(...launch), message);
  refused(/double_in_place: more threads/, "double_in_place", ONE, [1025, 1, 1], 0, [x, i32(1)]);
  refused(/bounded: more threads/, "bounded", ONE, [128, 1, 1], 0, [x]);
  refused(/double_in_place: grid/, "double_in_place", [1, 65536, 1], ONE, 0, [x, i32(1)]);
  refused(/too few arguments/, "double_in_place", ONE, ONE, 0, [x]);
  refused(/too many arguments/, "double_in_place", ONE, ONE, 0, [x, i32(1), y]);
  refused(/cuFuncSetAttribute of bounded \(200000 bytes/, "bounded", ONE, ONE, 200000, [x]);
  cuda.launch("bounded", ONE, ONE, 99 * 1024, [x]);
  return Promise.resolve();
});

Deno.test("CUDA simulator: shared declarations and kernels become C++", () => {
  const text = `extern "C" __global__ void __launch_bounds__(128) f(int *x) {
  extern __shared__ __attribute__((aligned(16))) unsigned char all[];
  __shared__ float tile[4][33], last;
}`;
  const translated = translate(text, "one");
  assert.match(
    translated,
    /unsigned char \*all = \(unsigned char \*\)cuda_sim::dynamic_shared\(\);/,
  );
  assert.match(translated, /typedef float\s+tile_type\[4\]\[33\];/);
  assert.match(translated, /last_type &last = /);
  assert.match(translated, /Registration f_entry\("f", family_one::f, .*unsigned\(128\)/);
});
