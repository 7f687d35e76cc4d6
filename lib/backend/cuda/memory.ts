// Arenas of the CUDA backend: one cudaMalloc each, tensors at 256-byte boundaries inside. Nothing is mapped: weights come
// through `write`.

import { CUDART } from "../../../ffi/cudart.ts";
import type { Allocation, Arena, Memory } from "../../core/backend.ts";
import { DeviceError } from "../../core/errors.ts";
import {
  byteLength,
  checkSpec,
  type DeviceBuffer,
  elementCount,
  hasTensors,
  type Tensor,
  type TensorSpec,
} from "../../core/tensor.ts";
import type { CudaDevice } from "./device.ts";
import { CUDA_ALIGNMENT } from "./footprint.ts";
import { Staging } from "./staging.ts";
import type { CudaStream } from "./stream.ts";

/** One arena's memory. Dead once the arena is disposed; `address` must not be used then. */
export class CudaBuffer implements DeviceBuffer {
  readonly owner: CudaMemory;
  readonly address: bigint;
  readonly byteLength: number;
  isLive = true;

  constructor(owner: CudaMemory, address: bigint, byteLength: number) {
    this.owner = owner;
    this.address = address;
    this.byteLength = byteLength;
  }
}

const F32_BYTES = 4;

function alignUp(bytes: number): number {
  return Math.ceil(bytes / CUDA_ALIGNMENT) * CUDA_ALIGNMENT;
}

/** The memory half of the backend. Disposing frees every arena that is still alive. */
export class CudaMemory implements Memory, Disposable {
  readonly #device: CudaDevice;
  readonly #stream: CudaStream;
  readonly #staging: Staging;
  readonly #live = new Map<CudaBuffer, Allocation>();
  readonly #reserved = new Map<CudaBuffer, Allocation>();
  readonly #place = new BigUint64Array(1);
  readonly #word = new Float32Array(1);
  readonly #bits = new Uint32Array(this.#word.buffer);
  #allocatedBytes = 0;

  constructor(device: CudaDevice, stream: CudaStream) {
    this.#device = device;
    this.#stream = stream;
    this.#staging = new Staging(device, stream, (line) => this.address(this.reserve(line)));
  }

  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  allocations(): readonly Allocation[] {
    return [...this.#reserved.values(), ...this.#live.values()];
  }

  allocate<K extends string>(label: string, specs: Readonly<Record<K, TensorSpec>>): Arena<K> {
    let size = 0;
    for (const [key, spec] of Object.entries<TensorSpec>(specs)) {
      checkSpec(`${label}.${key}`, spec);
      size += alignUp(byteLength(spec));
    }
    this.#stream.refuseInReplay(`allocate "${label}"`);
    const buffer = this.#create(label, size);
    const named: Record<string, Tensor> = {};
    let byteOffset = 0;
    for (const [key, { dtype, shape }] of Object.entries<TensorSpec>(specs)) {
      named[key] = { name: `${label}.${key}`, dtype, shape, buffer, byteOffset, parts: null };
      byteOffset += alignUp(byteLength({ dtype, shape }));
    }
    const tensors: object = named;
    if (!hasTensors(tensors, specs)) throw new TypeError(`Cannot name the tensors of "${label}"`);
    if (size > 0) this.#clear(buffer);
    this.#live.set(buffer, { label, byteLength: size });
    this.#allocatedBytes += size;
    return { tensors, byteLength: size, [Symbol.dispose]: () => this.#dispose(buffer) };
  }

  /** A flat f32 tensor for the backend's own work, not zeroed; a line of the table that lives as long as the backend. */
  reserve({ label, byteLength }: Allocation): Tensor {
    const buffer = this.#create(label, byteLength);
    this.#reserved.set(buffer, { label, byteLength });
    this.#allocatedBytes += byteLength;
    const shape = [byteLength / F32_BYTES];
    return { name: label, dtype: "f32", shape, buffer, byteOffset: 0, parts: null };
  }

  map(): null {
    return null;
  }

  write(dst: Tensor, source: ArrayBufferView): void {
    const to = this.address(dst, "write"), size = byteLength(dst);
    if (source.byteLength !== size) {
      throw new RangeError(
        `Cannot write "${dst.name}": got ${source.byteLength} bytes, expected ${size}`,
      );
    }
    this.#stream.refuseInReplay("write");
    if (size > 0) this.#staging.write(to, source);
  }

  async read(source: Tensor): Promise<ArrayBuffer> {
    const from = this.address(source, "read"), size = byteLength(source);
    this.#stream.refuseInReplay("read");
    return size === 0 ? new ArrayBuffer(0) : await this.#staging.read(from, size);
  }

  copy(dst: Tensor, source: Tensor): void {
    const to = this.address(dst, "copy"), from = this.address(source, "copy");
    const size = BigInt(byteLength(dst));
    if (byteLength(source) !== byteLength(dst)) {
      throw new RangeError(
        `Cannot copy "${source.name}" of ${byteLength(source)} bytes over "${dst.name}" of ${size}`,
      );
    }
    if (to < from + size && from < to + size && size > 0n) {
      throw new RangeError(`Cannot copy "${source.name}" over "${dst.name}": they overlap`);
    }
    if (size === 0n) return;
    const { runtime, checkRuntime } = this.#device, { compute } = this.#stream;
    const kind = CUDART.cudaMemcpyDeviceToDevice;
    checkRuntime("cudaMemcpyAsync", runtime.cudaMemcpyAsync(to, from, size, kind, compute));
    this.#stream.inspect("copy");
  }

  fill(dst: Tensor, value: number): void {
    const to = this.address(dst, "fill"), count = elementCount(dst.shape);
    if (count === 0) return;
    const { driver, checkDriver } = this.#device, { compute } = this.#stream;
    this.#word[0] = value;
    switch (dst.dtype) {
      case "f32":
        checkDriver(
          "cuMemsetD32Async",
          driver.cuMemsetD32Async(to, this.#bits[0], BigInt(count), compute),
        );
        break;
      case "i32":
        checkDriver(
          "cuMemsetD32Async",
          driver.cuMemsetD32Async(to, value >>> 0, BigInt(count), compute),
        );
        break;
      case "bf16":
        checkDriver(
          "cuMemsetD16Async",
          driver.cuMemsetD16Async(to, bf16Of(this.#bits[0]), BigInt(count), compute),
        );
        break;
      default:
        throw new TypeError(
          `Cannot fill "${dst.name}" of ${dst.dtype}: expected f32, bf16 or i32`,
        );
    }
    this.#stream.inspect("fill");
  }

  /**
   * Where a tensor lies on the device; `verb` names what is being done in the error.
   * @throws {DeviceError} when it belongs to another backend or to a disposed arena.
   */
  address(tensor: Tensor, verb = "compute with"): bigint {
    const { buffer } = tensor;
    if (!(buffer instanceof CudaBuffer) || buffer.owner !== this) {
      throw new DeviceError(
        `Cannot ${verb} "${tensor.name}": it belongs to another backend than cuda`,
      );
    }
    if (!buffer.isLive) {
      throw new DeviceError(`Cannot ${verb} "${tensor.name}": its arena has been disposed`);
    }
    return buffer.address + BigInt(tensor.byteOffset);
  }

  [Symbol.dispose](): void {
    for (const buffer of [...this.#live.keys()]) this.#dispose(buffer);
    this.#staging[Symbol.dispose]();
    for (const buffer of this.#reserved.keys()) this.#free(buffer);
  }

  #create(label: string, size: number): CudaBuffer {
    const { runtime, checkRuntime, name } = this.#device;
    const status = runtime.cudaMalloc(this.#place, BigInt(Math.max(CUDA_ALIGNMENT, size)));
    if (status === CUDART.cudaErrorMemoryAllocation) {
      runtime.cudaGetLastError();
      const { freeBytes, totalBytes } = this.#device.memoryInfo();
      throw new DeviceError(
        `Cannot allocate "${label}" on cuda (${name}): asked for ${size} bytes, ` +
          `${this.#allocatedBytes} bytes are in use; ${freeBytes} of the device's ${totalBytes} ` +
          "bytes are free, and no more than that fits",
      );
    }
    checkRuntime("cudaMalloc", status);
    return new CudaBuffer(this, this.#place[0], size);
  }

  #clear({ address, byteLength }: CudaBuffer): void {
    const { runtime, checkRuntime } = this.#device, { compute } = this.#stream;
    const status = runtime.cudaMemsetAsync(address, 0, BigInt(byteLength), compute);
    checkRuntime("cudaMemsetAsync", status);
  }

  #dispose(buffer: CudaBuffer): void {
    if (!this.#live.delete(buffer)) return;
    this.#allocatedBytes -= buffer.byteLength;
    // cudaFree is not said to wait for the work that uses the memory.
    this.#stream.settle();
    this.#stream.forget();
    this.#free(buffer);
  }

  // Statuses are not looked at: after a failure everything fails, and what failed was said before.
  #free(buffer: CudaBuffer): void {
    buffer.isLive = false;
    this.#device.runtime.cudaFree(buffer.address);
  }
}

/** The bits of an f32 number rounded to bf16, to the nearest even. NaN keeps its upper bits. */
function bf16Of(bits: number): number {
  const isNumber = (bits & 0x7fffffff) <= 0x7f800000;
  return (isNumber ? bits + 0x7fff + (bits >>> 16 & 1) : bits | 0x400000) >>> 16 & 0xffff;
}
