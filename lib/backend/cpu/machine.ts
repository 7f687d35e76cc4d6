// What the CPU backend needs of the place its memory and kernels live in: the process (native.ts) or a WASM memory
// (wasm.ts). Addresses are numbers here (below 2^53) and become the kernels' kind only at a call.

import type { Address, CpuKernels } from "./kernels.ts";

/** A file's bytes in the address space, read-only. */
export interface MappedFile {
  readonly address: number;
  readonly byteLength: number;
}

/** An opened build of the kernels with its memory and running threads. Disposing ends the threads; it never hangs. */
export interface CpuMachine extends Disposable {
  /** Such as `cpu:native (avx2, 2 threads)`. */
  readonly name: string;
  /** True when matrix products can round their operands to bf16 in hardware. */
  readonly hasBf16: boolean;
  readonly kernels: CpuKernels;
  /** The tl_context that every kernel takes first. */
  readonly context: Address;
  /** `address` as the kernels take it. */
  toAddress(address: number): Address;
  /** Zeroed memory, 64-byte aligned; null when there is none. */
  reserve(byteLength: number): number | null;
  release(address: number, byteLength: number): void;
  /** Null when files cannot be mapped. @throws {Deno.errors.NotFound} and its kin. */
  map(path: string): MappedFile | null;
  unmap(file: MappedFile): void;
  write(address: number, source: Uint8Array): void;
  read(address: number, byteLength: number): ArrayBuffer;
}
