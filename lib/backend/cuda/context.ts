// What the twelve family files get: entry points of PTX modules, launches on the compute stream, scratch memory. Launch
// geometry stays in the families, in one visible function each.

import { CUDA } from "../../../ffi/cuda.ts";
import type { Precision } from "../../core/backend.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Tensor } from "../../core/tensor.ts";
import { type DependentLaunch, dependentLaunch } from "./dependent.ts";
import type { CudaDevice } from "./device.ts";
import { SCRATCH } from "./footprint.ts";
import { versionText } from "./libraries.ts";
import type { CudaMemory } from "./memory.ts";
import { withEntries } from "./ptx.ts";
import type { CudaStream } from "./stream.ts";

/** One entry point of a module, ready to launch: `extern "C" __global__ void name(...)`. */
export interface CudaKernel {
  /** Its name in the source; appears in errors. */
  readonly name: string;
  /** CUfunction. */
  readonly handle: bigint;
  /** Whether it waits by itself for what the kernels before it write. */
  readonly isDependent: boolean;
}

/**
 * Entry points that dependent.ts launches where it is asked for, from PTX text of their own: they write nothing, and read
 * nothing but weights, before they have waited. None of them may write a weight.
 */
export interface DependentModule<K extends string> {
  readonly ptx: string;
  readonly entries: readonly K[];
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
  /** Compute capability, such as 9.0. */
  readonly capability: readonly [major: number, minor: number];
  /** Streaming multiprocessors, for grids that fill the device once. */
  readonly multiprocessors: number;
  /** Shared memory one block may have, in bytes, dynamic and static together. */
  readonly maxSharedBytes: number;
  /**
   * Loads these entry points of the PTX text of one family, or of `dependents` where it has them and they are asked for;
   * called once, when the backend opens.
   * @throws {DeviceError} when the driver refuses the text (with its compiler's log) or an entry is missing.
   */
  load<K extends string>(
    family: string,
    ptx: string,
    entries: readonly K[],
    dependents?: DependentModule<K>,
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
  /** Where a tensor's first element lies, for libraries. @throws {DeviceError} as `launch` does. */
  address(tensor: Tensor): bigint;
}

/** Most arguments of a kernel. */
const MAX_ARGS = 32;
/** Shared memory, dynamic and static together, that needs no permission. */
const FREE_SHARED_BYTES = 48 * 1024;
const LOG_BYTES = 8192;

/** Arguments of one launch as the driver wants them: 8 bytes each, and an array of their addresses that ends with null. */
class Arguments {
  readonly pointers = new BigUint64Array(MAX_ARGS + 1);
  readonly #slots = new ArrayBuffer(8 * MAX_ARGS);
  readonly #addresses = new BigUint64Array(this.#slots);
  readonly #view = new DataView(this.#slots);
  readonly #places: readonly bigint[];

  constructor() {
    const start = Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.#view));
    this.#places = Array.from({ length: MAX_ARGS }, (_, i) => start + BigInt(8 * i));
    for (const [i, place] of this.#places.entries()) this.pointers[i] = place;
  }

  /** Fills the slots and ends the array behind them; `reopen` undoes the end. */
  set(args: readonly KernelArg[], memory: CudaMemory): void {
    for (let i = 0; i < args.length; i++) {
      const arg = args[i];
      if (arg === null) this.#addresses[i] = 0n;
      else if (!("kind" in arg)) this.#addresses[i] = memory.address(arg);
      else if (arg.kind === "i32") this.#view.setInt32(8 * i, arg.value, true);
      else this.#view.setFloat32(8 * i, arg.value, true);
    }
    this.pointers[args.length] = 0n;
  }

  /** Undoes the end behind `count` arguments. */
  reopen(count: number): void {
    if (count < MAX_ARGS) this.pointers[count] = this.#places[count];
  }
}

/** Loads modules and launches their functions. Disposing unloads them. */
export class CudaLauncher implements CudaContext, Disposable {
  readonly precision: Precision;
  readonly #device: CudaDevice;
  readonly #memory: CudaMemory;
  readonly #stream: CudaStream;
  readonly #modules: bigint[] = [];
  readonly #arguments = new Arguments();
  /** Dynamic shared memory that each function may have. */
  readonly #allowedShared = new Map<bigint, number>();
  readonly #place = new BigUint64Array(1);
  /** Null where nobody asks for it. */
  readonly #launchDependent: DependentLaunch | null;
  #scratch: Tensor;

  constructor(device: CudaDevice, memory: CudaMemory, stream: CudaStream, precision: Precision) {
    this.#device = device;
    this.#memory = memory;
    this.#stream = stream;
    this.#scratch = memory.reserve(SCRATCH);
    this.precision = precision;
    this.#launchDependent = dependentLaunch(device, stream.compute, precision);
  }

  get capability(): readonly [major: number, minor: number] {
    return this.#device.capability;
  }

  get multiprocessors(): number {
    return this.#device.multiprocessors;
  }

  get maxSharedBytes(): number {
    return this.#device.maxSharedBytes;
  }

  load<K extends string>(
    family: string,
    ptx: string,
    entries: readonly K[],
    dependents?: DependentModule<K>,
  ): Readonly<Record<K, CudaKernel>> {
    const apart = this.#launchDependent === null ? undefined : dependents;
    const plain = entries.filter((name) => apart?.entries.includes(name) !== true);
    const named: object = {
      ...this.#loadFrom(family, ptx, plain, false),
      ...apart === undefined ? {} : this.#loadFrom(`${family}_90`, apart.ptx, apart.entries, true),
    };
    if (!hasEntries(named, entries)) throw new TypeError(`Cannot name the kernels of ${family}`);
    return named;
  }

  launch(
    kernel: CudaKernel,
    grid: Extent,
    block: Extent,
    sharedBytes: number,
    args: readonly KernelArg[],
  ): void {
    if (isEmpty(grid) || isEmpty(block)) return;
    if (sharedBytes > 0) this.#allowShared(kernel, sharedBytes);
    this.#arguments.set(args, this.#memory);
    const status = this.#enqueue(kernel, grid, block, sharedBytes);
    this.#arguments.reopen(args.length);
    if (status !== 0) this.#device.checkDriver(`cuLaunchKernel of ${kernel.name}`, status);
    this.#stream.inspect(kernel.name);
  }

  // Memory that has become too small stays: captured graphs may use it.
  scratch(count: number): Tensor {
    if (this.#scratch.shape[0] < count) {
      const byteLength = 4 * 2 ** Math.ceil(Math.log2(count));
      this.#scratch = this.#memory.reserve({ label: SCRATCH.label, byteLength });
    }
    return this.#scratch;
  }

  address(tensor: Tensor): bigint {
    return this.#memory.address(tensor);
  }

  [Symbol.dispose](): void {
    for (const module of this.#modules) this.#device.driver.cuModuleUnload(module);
  }

  /** Launches with the arguments that are set. @returns a CUresult. */
  #enqueue(kernel: CudaKernel, grid: Extent, block: Extent, sharedBytes: number): number {
    const { handle, isDependent } = kernel, parameters = this.#arguments.pointers;
    // After any other kernel, which may have written a weight, everything has to have ended.
    const isOverlapping = isDependent && this.#stream.allowsOverlap;
    this.#stream.allowsOverlap = isDependent;
    if (isOverlapping && this.#launchDependent !== null) {
      return this.#launchDependent(handle, grid, block, sharedBytes, parameters);
    }
    return this.#device.driver.cuLaunchKernel(
      handle,
      grid[0],
      grid[1],
      grid[2],
      block[0],
      block[1],
      block[2],
      sharedBytes,
      this.#stream.compute,
      parameters,
      0n,
    );
  }

  #loadFrom(
    family: string,
    ptx: string,
    entries: readonly string[],
    isDependent: boolean,
  ): Record<string, CudaKernel> {
    if (entries.length === 0) return {};
    const module = this.#loadModule(family, withEntries(ptx, entries));
    const kernels: Record<string, CudaKernel> = {};
    for (const name of entries) {
      const status = this.#device.driver.cuModuleGetFunction(this.#place, module, cString(name));
      this.#device.checkDriver(`cuModuleGetFunction of ${name}`, status);
      const handle = this.#place[0];
      this.#allowedShared.set(handle, FREE_SHARED_BYTES - this.#staticBytes(name, handle));
      kernels[name] = { name, handle, isDependent };
    }
    return kernels;
  }

  #loadModule(family: string, ptx: string): bigint {
    const { driver, checkDriver, driverVersion } = this.#device;
    const log = new Uint8Array(LOG_BYTES);
    const options = Int32Array.of(
      CUDA.CU_JIT_ERROR_LOG_BUFFER,
      CUDA.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    );
    const place = Deno.UnsafePointer.value(Deno.UnsafePointer.of(log));
    const values = BigUint64Array.of(place, BigInt(LOG_BYTES));
    const status = driver.cuModuleLoadDataEx(this.#place, cString(ptx), 2, options, values);
    if (status === CUDA.CUDA_ERROR_UNSUPPORTED_PTX_VERSION) {
      const version = ptx.match(/^\.version (\S+)/m)?.[1] ?? "unknown";
      throw new DeviceError(
        `Cannot use cuda: the driver, for CUDA ${versionText(driverVersion)}, is too old for ` +
          `kernels/dist/${family}.ptx of PTX version ${version}; install a newer driver`,
      );
    }
    if (status !== 0) {
      const words = new TextDecoder().decode(log.subarray(0, log.indexOf(0))).trim();
      checkDriver(`cuModuleLoadDataEx of ${family}.ptx (${words})`, status);
    }
    this.#modules.push(this.#place[0]);
    return this.#place[0];
  }

  /** Shared memory that a function's own variables take. Asking makes the driver load what it would load at a launch. */
  #staticBytes(name: string, handle: bigint): number {
    const { driver, checkDriver } = this.#device, bytes = new Int32Array(1);
    const attribute = CUDA.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
    checkDriver(
      `cuFuncGetAttribute of ${name}`,
      driver.cuFuncGetAttribute(bytes, attribute, handle),
    );
    return bytes[0];
  }

  #allowShared({ name, handle }: CudaKernel, bytes: number): void {
    if ((this.#allowedShared.get(handle) ?? 0) >= bytes) return;
    const { driver, checkDriver } = this.#device;
    const attribute = CUDA.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    checkDriver(
      `cuFuncSetAttribute of ${name} (${bytes} bytes of shared memory)`,
      driver.cuFuncSetAttribute(handle, attribute, bytes),
    );
    this.#allowedShared.set(handle, bytes);
  }
}

function isEmpty([x, y, z]: Extent): boolean {
  return x === 0 || y === 0 || z === 0;
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

function hasEntries<K extends string>(
  kernels: object,
  entries: readonly K[],
): kernels is Record<K, CudaKernel> {
  return entries.every((name) => name in kernels);
}
