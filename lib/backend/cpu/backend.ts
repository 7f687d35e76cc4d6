// The CPU backend: a machine (native or WASM), its memory and the twelve families joined. Work is done when a call returns.

import type { Backend, Precision } from "../../core/backend.ts";
import { checkedOps } from "../../core/checked_ops.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Ops } from "../../core/ops.ts";
import { dtypeCode } from "../dtype_code.ts";
import { adamwOps } from "./adamw.ts";
import { attentionOps } from "./attention.ts";
import { crossEntropyOps } from "./cross_entropy.ts";
import { embeddingOps } from "./embedding.ts";
import { kvCacheOps } from "./kv_cache.ts";
import { linearOps } from "./linear.ts";
import { quantizeOps } from "./quantize.ts";
import { reduceOps } from "./reduce.ts";
import { rmsnormOps } from "./rmsnorm.ts";
import { ropeOps } from "./rope.ts";
import { samplingOps } from "./sampling.ts";
import { swigluOps } from "./swiglu.ts";
import { cpuContext } from "./context.ts";
import type { CpuMachine } from "./machine.ts";
import { CpuMemory } from "./memory.ts";

/** All families of kernels/c on this machine. Trains in f32; `matmul` is what products round to. */
export function cpuBackend(machine: CpuMachine, matmul: "f32" | "bf16"): Backend {
  const memory = new CpuMemory(machine);
  const cpu = cpuContext(machine, memory, dtypeCode(matmul));
  const precision: Precision = {
    param: "f32",
    compute: "f32",
    grad: "f32",
    master: null,
    matmul,
  };
  const ops: Ops = {
    ...embeddingOps(cpu),
    ...rmsnormOps(cpu),
    ...linearOps(cpu),
    ...ropeOps(cpu),
    ...attentionOps(cpu),
    ...swigluOps(cpu),
    ...crossEntropyOps(cpu),
    ...reduceOps(cpu),
    ...adamwOps(cpu),
    ...kvCacheOps(cpu),
    ...samplingOps(cpu),
    ...quantizeOps(cpu),
  };
  let isOpen = true;
  return {
    kind: "cpu",
    info: { name: machine.name, isAsynchronous: false, waitsForAll: true, peakFlops: null },
    precision,
    ...checkedOps(ops, precision),
    get allocatedBytes() {
      return memory.allocatedBytes;
    },
    allocations: () => memory.allocations(),
    allocate(label, specs) {
      if (!isOpen) throw closed(machine, label);
      return memory.allocate(label, specs);
    },
    map(label, path) {
      if (!isOpen) throw closed(machine, label);
      return memory.map(label, path);
    },
    write: (dst, source) => memory.write(dst, source),
    read: (source) => memory.read(source),
    copy: (dst, source) => memory.copy(dst, source),
    fill: (dst, value) => memory.fill(dst, value),
    fence: () => ({ kind: "fence" }),
    wait() {},
    replay: (_key, record) => record(),
    synchronize: () => Promise.resolve(),
    [Symbol.dispose]() {
      if (!isOpen) return;
      isOpen = false;
      memory[Symbol.dispose]();
      machine[Symbol.dispose]();
    },
  };
}

function closed(machine: CpuMachine, label: string): DeviceError {
  return new DeviceError(`Cannot allocate "${label}": ${machine.name} has been closed`);
}
