// Arenas of the CPU backend: one reservation each, tensors at 64-byte boundaries inside. Native and WASM alike.

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
import { alignUp } from "./allocator.ts";
import type { CpuMachine } from "./machine.ts";
import type { Address } from "./kernels.ts";

/** One arena's memory. Dead once the arena is disposed; `address` must not be used then. */
export class CpuBuffer implements DeviceBuffer {
  readonly owner: CpuMemory;
  readonly address: number;
  readonly byteLength: number;
  readonly isReadOnly: boolean;
  isLive = true;

  constructor(owner: CpuMemory, address: number, byteLength: number, isReadOnly: boolean) {
    this.owner = owner;
    this.address = address;
    this.byteLength = byteLength;
    this.isReadOnly = isReadOnly;
  }
}

/** The memory half of the backend. Disposing frees every arena that is still alive. */
export class CpuMemory implements Memory, Disposable {
  readonly #machine: CpuMachine;
  readonly #live = new Map<CpuBuffer, { readonly line: Allocation; free(): void }>();
  #allocatedBytes = 0;

  constructor(machine: CpuMachine) {
    this.#machine = machine;
  }

  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  allocations(): readonly Allocation[] {
    return Array.from(this.#live.values(), (entry) => entry.line);
  }

  allocate<K extends string>(label: string, specs: Readonly<Record<K, TensorSpec>>): Arena<K> {
    const machine = this.#machine;
    let bytes = 0;
    for (const [key, spec] of Object.entries<TensorSpec>(specs)) {
      checkSpec(`${label}.${key}`, spec);
      bytes += alignUp(byteLength(spec));
    }
    const address = machine.reserve(bytes);
    if (address === null) {
      throw new DeviceError(
        `Cannot allocate "${label}" on ${machine.name}: asked for ${bytes} bytes, ` +
          `${this.#allocatedBytes} bytes are in use and no more than that is to be had`,
      );
    }
    const buffer = new CpuBuffer(this, address, bytes, false);
    const named: Record<string, Tensor> = {};
    let byteOffset = 0;
    for (const [key, { dtype, shape }] of Object.entries<TensorSpec>(specs)) {
      named[key] = { name: `${label}.${key}`, dtype, shape, buffer, byteOffset, parts: null };
      byteOffset += alignUp(byteLength({ dtype, shape }));
    }
    return this.#arena(label, specs, named, buffer, () => machine.release(address, bytes));
  }

  map(label: string, path: string): Arena<"bytes"> | null {
    const machine = this.#machine;
    const file = machine.map(path);
    if (file === null) return null;
    const buffer = new CpuBuffer(this, file.address, file.byteLength, true);
    const bytes: Tensor = {
      name: `${label}.bytes`,
      dtype: "u8",
      shape: [file.byteLength],
      buffer,
      byteOffset: 0,
      parts: null,
    };
    return this.#arena(label, { bytes }, { bytes }, buffer, () => machine.unmap(file));
  }

  write(dst: Tensor, source: ArrayBufferView): void {
    const place = this.#place("write", dst, true);
    const size = byteLength(dst);
    if (source.byteLength !== size) {
      throw new RangeError(
        `Cannot write "${dst.name}": got ${source.byteLength} bytes, expected ${size}`,
      );
    }
    const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (size > 0) this.#machine.write(place, bytes);
  }

  // Async so that a wrong tensor rejects rather than throws; the memory itself is at hand.
  read(source: Tensor): Promise<ArrayBuffer> {
    return new Promise((resolve) => {
      const place = this.#place("read", source, false);
      resolve(this.#machine.read(place, byteLength(source)));
    });
  }

  copy(dst: Tensor, source: Tensor): void {
    const to = this.#place("copy", dst, true), from = this.#place("copy", source, false);
    const size = byteLength(dst);
    if (byteLength(source) !== size) {
      throw new RangeError(
        `Cannot copy "${source.name}" of ${byteLength(source)} bytes over "${dst.name}" of ${size}`,
      );
    }
    if (to < from + size && from < to + size && size > 0) {
      throw new RangeError(`Cannot copy "${source.name}" over "${dst.name}": they overlap`);
    }
    const { kernels, context } = this.#machine;
    kernels.copy_bytes(context, this.#at(to), this.#at(from), this.#at(size));
  }

  fill(dst: Tensor, value: number): void {
    const place = this.#place("fill", dst, true);
    if (dst.dtype !== "f32" && dst.dtype !== "i32") {
      throw new TypeError(`Cannot fill "${dst.name}" of ${dst.dtype}: expected f32 or i32`);
    }
    const bits = dst.dtype === "f32" ? floatBits(value) : value | 0;
    const { kernels, context } = this.#machine;
    kernels.fill_words(context, this.#at(place), bits, elementCount(dst.shape));
  }

  /**
   * Where a tensor lies, as the kernels take it.
   * @throws {DeviceError} when it belongs to another backend or to a disposed arena.
   */
  address(tensor: Tensor, moreBytes = 0): Address {
    return this.#machine.toAddress(this.#place("compute with", tensor, false) + moreBytes);
  }

  /** Like {@linkcode address} for what the kernel writes. @throws {DeviceError} also for mapped files. */
  outputAddress(tensor: Tensor, moreBytes = 0): Address {
    return this.#machine.toAddress(this.#place("write", tensor, true) + moreBytes);
  }

  [Symbol.dispose](): void {
    for (const buffer of [...this.#live.keys()]) this.#dispose(buffer);
  }

  #at(address: number): Address {
    return this.#machine.toAddress(address);
  }

  #arena<K extends string>(
    label: string,
    keys: Readonly<Record<K, unknown>>,
    named: object,
    buffer: CpuBuffer,
    free: () => void,
  ): Arena<K> {
    if (!hasTensors(named, keys)) throw new TypeError(`Cannot name the tensors of "${label}"`);
    const size = buffer.byteLength;
    this.#live.set(buffer, { line: { label, byteLength: size }, free });
    this.#allocatedBytes += size;
    return { tensors: named, byteLength: size, [Symbol.dispose]: () => this.#dispose(buffer) };
  }

  #dispose(buffer: CpuBuffer): void {
    const entry = this.#live.get(buffer);
    if (entry === undefined) return;
    this.#live.delete(buffer);
    buffer.isLive = false;
    this.#allocatedBytes -= buffer.byteLength;
    entry.free();
  }

  #place(verb: string, tensor: Tensor, isWritten: boolean): number {
    const { buffer } = tensor;
    if (!(buffer instanceof CpuBuffer) || buffer.owner !== this) {
      throw new DeviceError(
        `Cannot ${verb} "${tensor.name}": it belongs to another backend than ${this.#machine.name}`,
      );
    }
    if (!buffer.isLive) {
      throw new DeviceError(`Cannot ${verb} "${tensor.name}": its arena has been disposed`);
    }
    if (isWritten && buffer.isReadOnly) {
      throw new DeviceError(`Cannot ${verb} "${tensor.name}": it is a mapped, read-only file`);
    }
    return buffer.address + tensor.byteOffset;
  }
}

function floatBits(value: number): number {
  return new Int32Array(Float32Array.of(value).buffer)[0];
}
