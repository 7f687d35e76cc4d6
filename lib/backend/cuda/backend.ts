// The CUDA backend: a device, its memory, its streams and the twelve families joined. Work runs in the order enqueued while
// the host goes on.

import type { Backend } from "../../core/backend.ts";
import { checkedOps } from "../../core/checked_ops.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Ops } from "../../core/ops.ts";
import { adamwOps } from "./adamw.ts";
import { attentionOps } from "./attention.ts";
import { type CudaContext, CudaLauncher } from "./context.ts";
import { crossEntropyOps } from "./cross_entropy.ts";
import { type CudaDevice, peakBf16Flops } from "./device.ts";
import { embeddingOps } from "./embedding.ts";
import { CUDA_PRECISIONS, WORKSPACE } from "./footprint.ts";
import { kvCacheOps } from "./kv_cache.ts";
import { linearOps } from "./linear.ts";
import { Matmul } from "./matmul.ts";
import { CudaMemory } from "./memory.ts";
import { quantizeOps } from "./quantize.ts";
import { reduceOps } from "./reduce.ts";
import { rmsnormOps } from "./rmsnorm.ts";
import { ropeOps } from "./rope.ts";
import { samplingOps } from "./sampling.ts";
import { CudaStream } from "./stream.ts";
import { swigluOps } from "./swiglu.ts";

/**
 * All families of kernels/cuda on this device, which the backend then owns, as it does the streams that work runs on.
 * @throws {DeviceError} when the driver does not take the kernels or memory is short.
 */
export function cudaBackend(
  device: CudaDevice,
  matmul: "f32" | "bf16",
  stream = new CudaStream(device),
): Backend {
  using opening = new DisposableStack();
  opening.use(device);
  opening.use(stream);
  const memory = opening.use(new CudaMemory(device, stream));
  const precision = CUDA_PRECISIONS[matmul];
  const launcher = opening.use(new CudaLauncher(device, memory, stream, precision));
  const workspace = memory.reserve(WORKSPACE);
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
      waitsForAll: false,
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
      // Before the modules whose functions they launch.
      stream.forget();
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
