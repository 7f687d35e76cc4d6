// The simulator computes Hopper's products of a warpgroup as the PTX manual has them, and finds mistakes in their use.

import assert from "node:assert/strict";
import { CudaLauncher, i32 } from "../../lib/backend/cuda/context.ts";
import { openDevice } from "../../lib/backend/cuda/device.ts";
import { CUDA_PRECISIONS } from "../../lib/backend/cuda/footprint.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { CudaMemory } from "../../lib/backend/cuda/memory.ts";
import { CudaStream } from "../../lib/backend/cuda/stream.ts";
import { encode } from "../reference/quantize.ts";
import { buildSimulator } from "./build.ts";

/** Kernels of faults/hopper.cu and the extents of their products: rows 64, columns, depth. */
const PRODUCTS = {
  by_columns: { columns: 64, depth: 64 },
  by_rows: { columns: 128, depth: 16 },
} as const;
type Name = keyof typeof PRODUCTS;

/** Says sm_80, because the simulated card is none of those that sm_90a is for. */
const PTX = `.version 8.0\n.target sm_80\n${
  ["by_columns", "by_rows"].map((name) =>
    `.visible .entry ${name}(\n${
      [0, 1, 2, 3].map((i) => `.param .u64 ${name}_param_${i}`).join(",\n")
    }\n)\n{\n}\n`
  ).join("")
}`;
const ROWS = 64;
const SHARED_BYTES = 16384;

const folder = decodeURIComponent(new URL("./faults", import.meta.url).pathname);
const build = await buildSimulator(folder);

/** Runs a kernel on whole numbers and checks what it computes; `mistake` as in faults/hopper.cu. */
async function multiply(folder: string, name: Name, mistake: number, seed: number): Promise<void> {
  const simulator = Deno.dlopen(`${folder}/libcuda_sim.so`, {
    cuda_sim_reset: { parameters: [], result: "void" },
  });
  using device = openDevice(findCuda([folder]));
  Deno.env.set("TINYLLAMA_CUDA_SIM_SHUFFLE", String(seed));
  using stream = new CudaStream(device);
  Deno.env.delete("TINYLLAMA_CUDA_SIM_SHUFFLE");
  using memory = new CudaMemory(device, stream);
  using launcher = new CudaLauncher(device, memory, stream, CUDA_PRECISIONS.f32);
  const { columns, depth } = PRODUCTS[name];
  const bShape = name === "by_columns" ? [columns, depth] : [depth, columns];
  using arena = memory.allocate("product", {
    a: { dtype: "bf16", shape: [ROWS, depth] },
    b: { dtype: "bf16", shape: bShape },
    out: { dtype: "f32", shape: [ROWS, columns] },
  });
  const a = Float64Array.from({ length: ROWS * depth }, (_, i) => (i * 7 % 23) - 11);
  const b = Float64Array.from({ length: columns * depth }, (_, i) => (i * 5 % 19) - 9);
  memory.write(arena.tensors.a, encode(a, "bf16"));
  memory.write(arena.tensors.b, encode(b, "bf16"));
  const kernel = launcher.load("hopper", PTX, [name])[name];
  const args = [arena.tensors.out, arena.tensors.a, arena.tensors.b, i32(mistake)];
  try {
    launcher.launch(kernel, [1, 1, 1], [128, 1, 1], SHARED_BYTES, args);
    const found = [...new Float32Array(await memory.read(arena.tensors.out))];
    const expected = Array.from({ length: ROWS * columns }, (_, i) => {
      const m = Math.floor(i / columns), n = i % columns;
      let sum = 0;
      for (let k = 0; k < depth; k++) {
        sum += a[m * depth + k] *
          (name === "by_columns" ? b[n * depth + k] : 3 * b[k * columns + n]);
      }
      return sum;
    });
    assert.deepEqual(found, expected);
  } finally {
    simulator.symbols.cuda_sim_reset();
    simulator.close();
  }
}

function inSimulator(name: string, run: (folder: string) => Promise<void>): void {
  const reason = build.kind === "built" ? "" : ` (skipped: ${build.reason})`;
  Deno.test({
    name: `CUDA simulator: ${name}${reason}`,
    ignore: build.kind === "missing",
    fn: () => run(build.kind === "built" ? build.folder : ""),
  });
}

inSimulator("kernels for compute capability 9.0 alone do not load elsewhere", async (folder) => {
  using device = openDevice(findCuda([folder]));
  using stream = new CudaStream(device);
  using memory = new CudaMemory(device, stream);
  using launcher = new CudaLauncher(device, memory, stream, CUDA_PRECISIONS.f32);
  const ptx = PTX.replace("sm_80", "sm_90a");
  assert.throws(() => launcher.load("hopper", ptx, ["by_rows"]), /cuModuleLoadDataEx.* 209/);
  await Promise.resolve();
});

for (const name of ["by_columns", "by_rows"] as const) {
  for (const seed of [0, 1, 2]) {
    inSimulator(
      `products of a warpgroup are those of the PTX manual, ${name}, threads in order ${seed}`,
      (folder) => multiply(folder, name, 0, seed),
    );
  }
}

/** Mistakes by their numbers in faults/hopper.cu, and what is said of each. */
const MISTAKES: readonly (readonly [string, Name, number, RegExp])[] = [
  ["no fence of the proxy", "by_columns", 1, /thread \d+ wrote without fence.proxy.async/],
  ["no barrier after it", "by_columns", 2, /race in shared|uninitialised|without fence.proxy/],
  ["no fence of registers", "by_columns", 3, /used after the last wgmma.fence/],
  ["registers used after the fence", "by_columns", 4, /used after the last wgmma.fence/],
  ["sums read too soon", "by_columns", 5, /are used before it is waited for/],
  [
    "an operand written over",
    "by_columns",
    6,
    /write of byte \d+ of shared memory that a wgmma product/,
  ],
  [
    "a copy to an operand",
    "by_columns",
    7,
    /asynchronous copy of byte \d+ .* that a wgmma product/,
  ],
  ["an operand that begins askew", "by_columns", 8, /does not begin at a multiple of 1024/],
  ["a warp that begins fewer", "by_columns", 9, /different (wgmma products|numbers of wgmma)/],
  ["a thread that ends before", "by_columns", 10, /thread ended before its wgmma products/],
  ["waits of different branches", "by_columns", 11, /execute different wgmma instructions/],
  ["a fragment written over", "by_rows", 5, /are used before it is waited for/],
];
for (const [name, kernel, mistake, message] of MISTAKES) {
  for (const seed of [0, 1]) {
    inSimulator(`wgmma with ${name} is found, threads in order ${seed}`, async (folder) => {
      await assert.rejects(multiply(folder, kernel, mistake, seed), message);
    });
  }
}
