// The WebGPU backend: a device, its memory, its command stream and the twelve families joined. Work runs in the order
// enqueued, while the host goes on until it reads.

import type { Backend, Precision } from "../../core/backend.ts";
import { checkedOps } from "../../core/checked_ops.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Ops } from "../../core/ops.ts";
import { adamwOps } from "./adamw.ts";
import { attentionOps } from "./attention.ts";
import { CommandStream } from "./command_stream.ts";
import { GpuContext } from "./context.ts";
import { crossEntropyOps } from "./cross_entropy.ts";
import type { WebgpuDevice } from "./device.ts";
import { embeddingOps } from "./embedding.ts";
import { fillOp } from "./fill.ts";
import { kvCacheOps } from "./kv_cache.ts";
import { linearOps } from "./linear.ts";
import { GpuMemory } from "./memory.ts";
import { quantizeOps } from "./quantize.ts";
import { reduceOps } from "./reduce.ts";
import { rmsnormOps } from "./rmsnorm.ts";
import { ropeOps } from "./rope.ts";
import { samplingOps } from "./sampling.ts";
import { swigluOps } from "./swiglu.ts";

const PRECISION: Precision = {
  param: "f32",
  compute: "f32",
  grad: "f32",
  master: null,
  matmul: "f32",
};

/**
 * All families of kernels/wgsl on this device, which the backend then owns. Trains in f32; weights may have any type.
 * @throws {DeviceError} when a shader does not compile.
 */
export async function webgpuBackend(gpu: WebgpuDevice): Promise<Backend> {
  const stream = new CommandStream(gpu.device);
  const memory = new GpuMemory(gpu, stream, () => context.forget());
  const context = new GpuContext(gpu, memory, stream);
  const [ops, fill] = await Promise.all([compileOps(context), fillOp(context)]);
  const name = `webgpu (${gpu.adapter.description})`;
  let isOpen = true;
  return {
    kind: "webgpu",
    // Deno waits for all submitted work when a result is mapped, so work enqueued before that would only delay it.
    info: { name, isAsynchronous: true, waitsForAll: true, peakFlops: null },
    precision: PRECISION,
    ...checkedOps(ops, PRECISION),
    get allocatedBytes() {
      return memory.allocatedBytes;
    },
    allocations: () => memory.allocations(),
    allocate(label, specs) {
      if (!isOpen) throw new DeviceError(`Cannot allocate "${label}": ${name} has been closed`);
      return memory.allocate(label, specs);
    },
    map: () => memory.map(),
    write: (dst, source) => memory.write(dst, source),
    read: (source) => memory.read(source),
    copy: (dst, source) => memory.copy(dst, source),
    fill,
    // One queue runs everything in order.
    fence: () => ({ kind: "fence" }),
    wait() {},
    replay: (key, record) => stream.replay(key, record),
    async synchronize() {
      stream.flush();
      await gpu.device.queue.onSubmittedWorkDone();
      gpu.check();
    },
    [Symbol.dispose]() {
      if (!isOpen) return;
      isOpen = false;
      memory[Symbol.dispose]();
      context.destroy();
      gpu[Symbol.dispose]();
    },
  };
}

/** Compiles all families side by side. */
async function compileOps(gpu: GpuContext): Promise<Ops> {
  const [
    embedding,
    rmsnorm,
    linear,
    rope,
    attention,
    swiglu,
    crossEntropy,
    reduce,
    adamw,
    kvCache,
    sampling,
    quantize,
  ] = await Promise.all([
    embeddingOps(gpu),
    rmsnormOps(gpu),
    linearOps(gpu),
    ropeOps(gpu),
    attentionOps(gpu),
    swigluOps(gpu),
    crossEntropyOps(gpu),
    reduceOps(gpu),
    adamwOps(gpu),
    kvCacheOps(gpu),
    samplingOps(gpu),
    quantizeOps(gpu),
  ]);
  return {
    ...embedding,
    ...rmsnorm,
    ...linear,
    ...rope,
    ...attention,
    ...swiglu,
    ...crossEntropy,
    ...reduce,
    ...adamw,
    ...kvCache,
    ...sampling,
    ...quantize,
  };
}
