// What a card refuses the simulator refuses: calls while work is captured, shared memory beyond what a kernel's own variables
// leave, modules unloaded under the graphs that use them. So a new call in the wrong place is found without a card.

import assert from "node:assert/strict";
import { CUDART } from "../../ffi/cudart.ts";
import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { CudaLauncher, i32 } from "../../lib/backend/cuda/context.ts";
import { type CudaDevice, openDevice } from "../../lib/backend/cuda/device.ts";
import { CUDA_PRECISIONS } from "../../lib/backend/cuda/footprint.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { CudaMemory } from "../../lib/backend/cuda/memory.ts";
import { CudaStream } from "../../lib/backend/cuda/stream.ts";
import { buildSimulator } from "../cuda_sim/build.ts";

/** What a call of the CUDA API is refused with while work is captured, and a capture that saw one when it ends. */
const NOT_WHILE_CAPTURING = 900, INVALIDATED = 901;
const CAPTURE_GLOBAL = 0;

interface Opened {
  readonly device: CudaDevice;
  readonly stream: CudaStream;
  readonly memory: CudaMemory;
}

const simulator = await buildSimulator();
const open = () => openDevice(findCuda(simulator.kind === "built" ? [simulator.folder] : []));

function inSimulator(name: string, run: (opened: Opened) => void | Promise<void>): void {
  const reason = simulator.kind === "built" ? "" : ` (skipped: ${simulator.reason})`;
  Deno.test({
    name: `${name} in the CUDA simulator${reason}`,
    ignore: simulator.kind === "missing",
    async fn() {
      using device = open();
      using stream = new CudaStream(device);
      using memory = new CudaMemory(device, stream);
      await run({ device, stream, memory });
    },
  });
}

inSimulator("waiting while capturing spoils the capture, not what follows", async (opened) => {
  const { stream, memory } = opened;
  using arena = memory.allocate("a", { x: { dtype: "f32", shape: [2] } });
  const { x } = arena.tensors;
  const late = () => stream.replay("late", () => stream.blockAll());
  late();
  assert.throws(late, new RegExp(`cudaStreamSynchronize failed with ${NOT_WHILE_CAPTURING}`));
  stream.replay("fill", () => memory.fill(x, 3));
  assert.deepEqual([...new Float32Array(await memory.read(x))], [3, 3]);
});

inSimulator("memory that is not page-locked cannot be copied while capturing", (opened) => {
  const { device: { runtime }, stream, memory } = opened;
  using arena = memory.allocate("a", { x: { dtype: "f32", shape: [2] } });
  const from = memory.address(arena.tensors.x), kind = CUDART.cudaMemcpyDeviceToHost;
  let status = 0;
  const record = () => {
    status = runtime.cudaMemcpyAsyncToBuffer(new Uint8Array(8), from, 8n, kind, stream.compute);
  };
  stream.replay("copy", record);
  assert.equal(status, 0);
  assert.throws(() => stream.replay("copy", record), new RegExp(`failed with ${INVALIDATED}`));
  assert.equal(status, NOT_WHILE_CAPTURING);
});

inSimulator("allocating is for a relaxed capture, as the backend's is", ({ device, stream }) => {
  const { runtime } = device, { compute } = stream, place = new BigUint64Array(1);
  const allocated = (mode: number) => {
    assert.equal(runtime.cudaStreamBeginCapture(compute, mode), 0);
    const status = runtime.cudaMalloc(place, 256n);
    if (status === 0) runtime.cudaFree(place[0]);
    const end = runtime.cudaStreamEndCapture(compute, place);
    if (end === 0) runtime.cudaGraphDestroy(place[0]);
    return [status, end];
  };
  assert.deepEqual(allocated(CUDART.cudaStreamCaptureModeRelaxed), [0, 0]);
  assert.deepEqual(allocated(CAPTURE_GLOBAL), [NOT_WHILE_CAPTURING, INVALIDATED]);
});

inSimulator("a kernel's own shared variables count beside dynamic memory", (opened) => {
  const { device, stream, memory } = opened;
  using launcher = new CudaLauncher(device, memory, stream, CUDA_PRECISIONS.f32);
  const parameters = ["u64", "u64", "u32"].map((type, i) => `.param .${type} p_${i}`).join(",\n");
  const ptx = `.version 7.0\n.target sm_80\n.visible .entry reduce_sum(\n${parameters}\n)\n` +
    "{\n.shared .align 4 .b8 own[4096];\nmov.u64 %rd1, own;\n}\n";
  const { reduce_sum } = launcher.load("reduce", ptx, ["reduce_sum"]);
  using arena = memory.allocate("a", { x: { dtype: "f32", shape: [512] } });
  const { x } = arena.tensors, partial = launcher.scratch(2);
  const launch = (bytes: number) =>
    launcher.launch(reduce_sum, [1, 1, 1], [512, 1, 1], bytes, [partial, x, i32(0)]);
  launch(46 * 1024);
  launch((99 - 4) * 1024);
  assert.throws(() => launch(97 * 1024), /cuFuncSetAttribute of reduce_sum \(99328 bytes/);
});

inSimulator("a backend gives up its graphs before the modules they use", async ({ device }) => {
  {
    using backend = cudaBackend(open(), "f32");
    using arena = backend.allocate("a", {
      x: { dtype: "f32", shape: [64] },
      sum: { dtype: "f32", shape: [1] },
    });
    const { x, sum } = arena.tensors;
    for (let time = 0; time < 2; time++) backend.replay("sum", () => backend.sum(sum, x));
    await backend.synchronize();
    backend[Symbol.dispose]();
  }
  // A misuse would be this device's failure from now on.
  assert.ok(device.memoryInfo().freeBytes > 0);
});
