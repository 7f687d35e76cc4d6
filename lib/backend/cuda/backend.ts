// The CUDA backend: a device, its memory, its streams and the twelve families joined. Work runs in the order enqueued while
// the host goes on.

import type { Backend, Precision } from "../../core/backend.ts";
import { checkedOps } from "../../core/checked_ops.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Ops } from "../../core/ops.ts";
import { adamwOps } from "./adamw.ts";
import { attentionOps } from "./attention.ts";
import { type CudaContext, CudaLauncher } from "./context.ts";
import { crossEntropyOps } from "./cross_entropy.ts";
import { type CudaDevice, peakBf16Flops } from "./device.ts";
import { embeddingOps } from "./embedding.ts";
import { kvCacheOps } from "./kv_cache.ts";
import { linearOps } from "./linear.ts";
import { Matmul, WORKSPACE_BYTES } from "./matmul.ts";
import { CudaMemory } from "./memory.ts";
import { quantizeOps } from "./quantize.ts";
import { reduceOps } from "./reduce.ts";
import { rmsnormOps } from "./rmsnorm.ts";
import { ropeOps } from "./rope.ts";
import { samplingOps } from "./sampling.ts";
import { CudaStream } from "./stream.ts";
import { swigluOps } from "./swiglu.ts";

/** bf16 with f32 sums, gradients and master weights (the paper's), or f32 throughout. */
const PRECISIONS: Readonly<Record<"bf16" | "f32", Precision>> = {
  bf16: { param: "bf16", compute: "bf16", grad: "f32", master: "f32", matmul: "bf16" },
  f32: { param: "f32", compute: "f32", grad: "f32", master: null, matmul: "f32" },
};

/**
 * All families of kernels/cuda on this device, which the backend then owns.
 * @throws {DeviceError} when the driver does not take the kernels or memory is short.
 */
export function cudaBackend(device: CudaDevice, matmul: "f32" | "bf16"): Backend {
  using opening = new DisposableStack();
  opening.use(device);
  const stream = opening.use(new CudaStream(device));
  const memory = opening.use(new CudaMemory(device, stream));
  const precision = PRECISIONS[matmul];
  const launcher = opening.use(new CudaLauncher(device, memory, stream, precision));
  const workspace = memory.reserve("cuBLASLt workspace", WORKSPACE_BYTES / 4);
  const products = opening.use(new Matmul(device, stream, memory.address(workspace)));
  const ops = checkedOps(allOps(launcher, products), precision);
  const resources = opening.move();
  const name = `cuda (${device.name}, ${matmul})`;
  let isOpen = true;
  return {
    kind: "cuda",
    info: {
      name,
      isAsynchronous: true,
      peakFlops: matmul === "bf16" ? peakBf16Flops(device) : null,
    },
    precision,
    ...ops,
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
    fill: (dst, value) => memory.fill(dst, value),
    // One stream runs all operations in order.
    fence: () => ({ kind: "fence" }),
    wait() {},
    replay: (key, record) => stream.replay(key, record),
    synchronize: () => stream.drained(),
    [Symbol.dispose]() {
      if (!isOpen) return;
      isOpen = false;
      stream.settle();
      resources.dispose();
    },
  };
}

/** Loads all families. */
function allOps(cuda: CudaContext, products: Matmul): Ops {
  const quantize = quantizeOps(cuda);
  return {
    ...embeddingOps(cuda),
    ...rmsnormOps(cuda),
    ...linearOps(cuda, products, quantize.cast),
    ...ropeOps(cuda),
    ...attentionOps(cuda),
    ...swigluOps(cuda),
    ...crossEntropyOps(cuda),
    ...reduceOps(cuda),
    ...adamwOps(cuda),
    ...kvCacheOps(cuda),
    ...samplingOps(cuda),
    ...quantize,
  };
}
