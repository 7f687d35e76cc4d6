// What the twelve family files get: entry points of PTX modules, launches on the compute stream, scratch memory. Launch
// geometry stays in the families, in one visible function each.

import type { Precision } from "../../core/backend.ts";
import type { Tensor } from "../../core/tensor.ts";

/** One entry point of a module, ready to launch: `extern "C" __global__ void name(...)`. */
export interface CudaKernel {
  /** Its name in the source; appears in errors. */
  readonly name: string;
  /** CUfunction. */
  readonly handle: bigint;
}

/** A scalar argument, made by {@linkcode i32} or {@linkcode f32}. */
export interface KernelScalar {
  readonly kind: "i32" | "f32";
  readonly value: number;
}

/**
 * An argument of a kernel in the order of its C parameters: a tensor is the address of its first element (null the null
 * pointer), a scalar is a C `int` or `float`. There are no other parameter types.
 */
export type KernelArg = Tensor | null | KernelScalar;

/** Blocks of a launch, or threads of a block: x, y, z. */
export type Extent = readonly [x: number, y: number, z: number];

/** A C `int` argument. */
export function i32(value: number): KernelScalar {
  return { kind: "i32", value };
}

/** A C `float` argument. */
export function f32(value: number): KernelScalar {
  return { kind: "f32", value };
}

/** One device's kernels, compute stream and memory as the families see them. */
export interface CudaContext {
  /** bf16 with f32 master and gradients, or f32 throughout; picks the entry points of a family. */
  readonly precision: Precision;
  /** Streaming multiprocessors, for grids that fill the device once. */
  readonly multiprocessors: number;
  /** Shared memory one block may have, in bytes, dynamic and static together. */
  readonly maxSharedBytes: number;
  /**
   * Loads the PTX text of one family and resolves entry points; called once, when the backend opens.
   * @throws {DeviceError} when the driver refuses the text (with its compiler's log) or an entry is missing.
   */
  load<K extends string>(
    family: string,
    ptx: string,
    entries: readonly K[],
  ): Readonly<Record<K, CudaKernel>>;
  /**
   * Enqueues a launch on the compute stream. `sharedBytes` is dynamic shared memory, allowed beyond 48 KiB by itself. A
   * grid or block with a zero extent launches nothing.
   * @throws {DeviceError} when the driver refuses it, or a tensor is another backend's or was freed.
   */
  launch(
    kernel: CudaKernel,
    grid: Extent,
    block: Extent,
    sharedBytes: number,
    args: readonly KernelArg[],
  ): void;
  /**
   * At least `count` f32 of memory that keeps nothing from one operation to the next; 256-byte aligned, not zeroed. The
   * same memory at every call, so one operation takes it once and cuts it up itself.
   */
  scratch(count: number): Tensor;
}
