// The simulator finds what a kernel may not do while those it depends on still run, and lets it read its weights.

import assert from "node:assert/strict";
import { CudaLauncher, type Extent, i32, type KernelArg } from "../../lib/backend/cuda/context.ts";
import { type CudaDevice, openDevice } from "../../lib/backend/cuda/device.ts";
import { CUDA_PRECISIONS, WORKSPACE } from "../../lib/backend/cuda/footprint.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { Matmul, type ProductShape } from "../../lib/backend/cuda/matmul.ts";
import { CudaMemory } from "../../lib/backend/cuda/memory.ts";
import { CudaStream } from "../../lib/backend/cuda/stream.ts";
import type { Tensor } from "../../lib/core/tensor.ts";
import { buildSimulator } from "./build.ts";

/** Kernels of faults/dependent.cu, how many parameters each has, and what its PTX does. */
const PLAIN = { doubles: 1 } as const;
const DEPENDENT = { adds_weight: 4, passes: 1 } as const;
const WAIT = "griddepcontrol.wait;\n";
type Name = keyof typeof PLAIN | keyof typeof DEPENDENT;

const COUNT = 64;
const ONE: Extent = [1, 1, 1], BLOCK: Extent = [COUNT, 1, 1];

const faults = decodeURIComponent(new URL("./faults", import.meta.url).pathname);
const build = await buildSimulator(faults);

function ptxOf(target: string, entries: Readonly<Record<string, number>>, body: string): string {
  const texts = Object.entries(entries).map(([name, count]) => {
    const parameters = Array.from({ length: count }, (_, i) => `.param .u64 ${name}_param_${i}`);
    return `.visible .entry ${name}(\n${parameters.join(",\n")}\n)\n{\n${body}}\n`;
  });
  return `.version 7.8\n.target ${target}\n${texts.join("")}`;
}

interface Simulated {
  readonly device: CudaDevice;
  readonly stream: CudaStream;
  readonly memory: CudaMemory;
  /** x and weight hold 0, 1, 2, …; out and own nothing. */
  readonly tensors: Readonly<Record<"out" | "x" | "weight" | "own", Tensor>>;
  launch(name: Name, args: readonly KernelArg[]): void;
  /** Launches so far that may begin early. */
  early(): number;
}

/** Runs on a card of compute capability 9.0 with the kernels of faults/dependent.cu. */
async function simulate(
  seed: number,
  run: (cuda: Simulated) => Promise<void>,
  body = WAIT,
): Promise<void> {
  const folders = build.kind === "built" ? [build.folder] : [];
  const simulator = Deno.dlopen(`${folders[0]}/libcuda_sim.so`, {
    cuda_sim_reset: { parameters: [], result: "void" },
    cuda_sim_dependent_launches: { parameters: [], result: "u32" },
  });
  const variables = {
    TINYLLAMA_CUDA_PDL: "1",
    TINYLLAMA_CUDA_SIM_CAPABILITY: "9.0",
    TINYLLAMA_CUDA_SIM_SHUFFLE: String(seed),
  };
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    using device = openDevice(findCuda(folders));
    using stream = new CudaStream(device);
    using memory = new CudaMemory(device, stream);
    using launcher = new CudaLauncher(device, memory, stream, CUDA_PRECISIONS.bf16);
    const names: readonly Name[] = ["doubles", "adds_weight", "passes"];
    const kernels = launcher.load("faults", ptxOf("sm_80", PLAIN, ""), names, {
      ...{ ptx: ptxOf("sm_90", DEPENDENT, body), entries: ["adds_weight", "passes"] },
    });
    const spec = { dtype: "f32", shape: [COUNT] } as const;
    using arena = memory.allocate("test", { out: spec, x: spec, weight: spec, own: spec });
    for (const one of [arena.tensors.x, arena.tensors.weight]) {
      memory.write(one, Float32Array.from({ length: COUNT }, (_, i) => i));
    }
    const first = simulator.symbols.cuda_sim_dependent_launches();
    await run({
      ...{ device, stream, memory, tensors: arena.tensors },
      launch: (name, args) => launcher.launch(kernels[name], ONE, BLOCK, 0, args),
      early: () => simulator.symbols.cuda_sim_dependent_launches() - first,
    });
  } finally {
    for (const name of Object.keys(variables)) Deno.env.delete(name);
    simulator.symbols.cuda_sim_reset();
    simulator.close();
  }
}

function inSimulator(name: string, run: () => Promise<void>): void {
  const reason = build.kind === "built" ? "" : ` (skipped: ${build.reason})`;
  Deno.test({
    name: `CUDA simulator: ${name}${reason}`,
    ignore: build.kind === "missing",
    fn: run,
  });
}

/** out = x + weight, with a mistake or 0. */
function addWeight({ launch, tensors: { out, x, weight } }: Simulated, mistake: number): void {
  launch("adds_weight", [out, x, weight, i32(mistake)]);
}

/** Waits for all and looks at `tensor`. */
async function floats({ memory }: Simulated, tensor: Tensor): Promise<number[]> {
  return [...new Float32Array(await memory.read(tensor))];
}

inSimulator(
  "kernels that wait read weights before, and the rest after",
  () =>
    simulate(1, async (cuda) => {
      const { launch, early, tensors: { out, x, own } } = cuda;
      addWeight(cuda, 0);
      assert.equal(early(), 1);
      launch("doubles", [x]);
      launch("passes", [own]);
      // After a kernel that waits for nobody everything has to have ended.
      assert.equal(early(), 1);
      addWeight(cuda, 0);
      assert.equal(early(), 2);
      assert.deepEqual(await floats(cuda, out), Array.from({ length: COUNT }, (_, i) => 3 * i));
    }),
);

inSimulator("a graph begins when all before it has ended", () =>
  simulate(0, async (cuda) => {
    const { stream, launch, early, tensors: { out, own } } = cuda;
    const record = () => {
      launch("passes", [own]);
      addWeight(cuda, 0);
    };
    stream.replay("step", record);
    assert.equal(early(), 2);
    stream.replay("step", record);
    assert.equal(early(), 3);
    stream.replay("step", record);
    addWeight(cuda, 0);
    assert.equal(early(), 3);
    assert.deepEqual(await floats(cuda, out), Array.from({ length: COUNT }, (_, i) => 2 * i));
  }));

/** Mistakes by their numbers in faults/dependent.cu, and what is said of each. */
const MISTAKES: readonly (readonly [string, number, RegExp])[] = [
  [
    "reads what a kernel before writes",
    1,
    /read at byte \d+ .* before griddepcontrol.wait, of what/,
  ],
  ["writes", 2, /write at byte \d+ of an allocation of \d+ bytes before griddepcontrol.wait/],
  ["ends in one warp", 3, /thread ended without griddepcontrol.wait/],
  ["ends", 4, /thread ended without griddepcontrol.wait/],
  [
    "begins to copy what a kernel before writes",
    5,
    /read at byte \d+ .* before griddepcontrol.wait/,
  ],
];
for (const [what, mistake, message] of MISTAKES) {
  for (const seed of [0, 1]) {
    inSimulator(
      `a kernel that ${what} before it waits is found, threads in order ${seed}`,
      () =>
        simulate(seed, async (cuda) => {
          const { launch, tensors: { out, x, own } } = cuda;
          // x is written by the one before last: the kernel in between has begun while that one ran.
          launch("passes", [x]);
          launch("passes", [own]);
          addWeight(cuda, mistake);
          await assert.rejects(floats(cuda, out), (error: unknown) => {
            assert.ok(error instanceof Error);
            assert.match(error.message, message);
            return /kernel adds_weight/.test(error.message);
          });
        }),
    );
  }
}

inSimulator(
  "a kernel that reads a product before it waits is found",
  () =>
    simulate(0, async (cuda) => {
      const { device, stream, memory, tensors: { x, weight, own, out } } = cuda;
      const workspace = memory.reserve(WORKSPACE), side = Math.sqrt(COUNT);
      using products = new Matmul(device, stream, memory.address(workspace));
      const [a, b, d] = [weight, own, x].map((one) => memory.address(one));
      const shape: ProductShape = {
        ...{ input: "f32", output: "f32", isATransposed: false, isBTransposed: false },
        ...{ m: side, n: side, k: side, strideA: side, strideB: side, strideD: side },
      };
      memory.fill(own, 1);
      products.run(shape, { a, b, c: d, d }, false);
      addWeight(cuda, 0);
      assert.equal((await floats(cuda, out)).length, COUNT);
      products.run(shape, { a, b, c: d, d }, false);
      addWeight(cuda, 1);
      const message = /adds_weight.* read at .* before griddepcontrol.wait, of what/;
      await assert.rejects(floats(cuda, out), message);
    }),
);

inSimulator("a kernel whose PTX does not wait is found", () =>
  simulate(0, async (cuda) => {
    addWeight(cuda, 0);
    const message = /adds_weight.*before griddepcontrol.wait|ended without/;
    await assert.rejects(floats(cuda, cuda.tensors.out), message);
  }, "ret;\n"));

inSimulator("PTX for compute capability 9.0 and later does not load before", async () => {
  using device = openDevice(findCuda(build.kind === "built" ? [build.folder] : []));
  using stream = new CudaStream(device);
  using memory = new CudaMemory(device, stream);
  using launcher = new CudaLauncher(device, memory, stream, CUDA_PRECISIONS.bf16);
  const load = (target: string) =>
    launcher.load("faults", ptxOf(target, DEPENDENT, WAIT), ["passes"]);
  load("sm_86");
  assert.throws(() => load("sm_90"), /cuModuleLoadDataEx.* 209/);
  await Promise.resolve();
});
