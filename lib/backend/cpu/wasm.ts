// The kernels as WebAssembly with shared memory: 32-bit, or 64-bit where 4 GiB are not enough. Threads are Deno workers
// (worker.ts) that share module and memory and sleep inside it between operations.

import kernels32 from "../../../kernels/dist/kernels.wasm" with { type: "bytes" };
import kernels64 from "../../../kernels/dist/kernels64.wasm" with { type: "bytes" };
import { CPU_SYMBOLS } from "../../../ffi/cpu.ts";
import { DeviceError } from "../../core/errors.ts";
import { Allocator } from "./allocator.ts";
import type { Address, CpuKernels } from "./kernels.ts";
import type { CpuMachine } from "./machine.ts";

const PAGE_BYTES = 65536;
const INITIAL_PAGES = 64;
const STACK_BYTES = 1 << 20;
/** The limits kernels/build.ts links into the modules. */
const MAX_PAGES = { 32: 65536, 64: 262144 } as const;

/** The width of addresses. */
export type WasmBits = 32 | 64;

/** What a worker needs to serve. `stackTop` and `context` are addresses of the module's kind. */
export interface WorkerStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly context: Address;
  readonly worker: number;
  readonly stackTop: Address;
}

/**
 * Instantiates the module, starts `threads` − 1 workers and waits until each is about to serve.
 * @throws {DeviceError} when memory or a worker cannot be had.
 */
export async function openWasm(bits: WasmBits, threads: number): Promise<CpuMachine> {
  const name = `cpu:wasm${bits === 64 ? "64" : ""} (simd128, ${threads} threads)`;
  const module = new WebAssembly.Module(bits === 32 ? kernels32 : kernels64);
  const memory = openMemory(bits, name);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  if (!isKernels(exports)) throw new DeviceError(`Cannot open ${name}: ${missingSymbols(exports)}`);
  const heap = new WasmHeap(bits, memory, heapBase(exports));
  const toAddress = bits === 32 ? (address: number) => address : BigInt;
  const place = heap.reserve(Number(exports.tl_context_bytes(threads)));
  const stacks = heap.reserve((threads - 1) * STACK_BYTES);
  if (place === null || stacks === null) {
    throw new DeviceError(`Cannot open ${name}: no memory for the threads' scratch space`);
  }
  const context = toAddress(place);
  if (exports.tl_context_open(context, threads) !== 0) {
    throw new DeviceError(`Cannot open ${name}: the number of threads is out of range`);
  }
  const workers: Worker[] = [];
  const close = () => {
    exports.tl_context_close(context);
    for (const worker of workers) worker.terminate();
  };
  try {
    await Promise.all(Array.from({ length: threads - 1 }, (_, index) => {
      const stackTop = toAddress(stacks + (index + 1) * STACK_BYTES);
      return startWorker(workers, { module, memory, context, worker: index + 1, stackTop });
    }));
  } catch (error) {
    close();
    throw error;
  }
  return {
    name,
    hasBf16: false,
    kernels: exports,
    context,
    toAddress,
    reserve: (bytes) => heap.reserve(bytes),
    release: (address) => heap.release(address),
    map: () => null,
    unmap() {},
    write: (address, source) => heap.view(address, source.byteLength).set(source),
    read(address, byteLength) {
      const copy = new Uint8Array(byteLength);
      copy.set(heap.view(address, byteLength));
      return copy.buffer;
    },
    [Symbol.dispose]: close,
  };
}

/** The linear memory, grown on demand; blocks that were used before are zeroed when handed out again. */
class WasmHeap {
  readonly #memory: WebAssembly.Memory;
  readonly #bits: WasmBits;
  readonly #allocator: Allocator;
  #pages = INITIAL_PAGES;
  #touchedEnd = 0;

  constructor(bits: WasmBits, memory: WebAssembly.Memory, start: number) {
    this.#bits = bits;
    this.#memory = memory;
    this.#allocator = new Allocator(start, INITIAL_PAGES * PAGE_BYTES);
  }

  reserve(byteLength: number): number | null {
    const address = this.#allocator.allocate(byteLength) ?? this.#grow(byteLength);
    if (address === null) return null;
    const end = address + byteLength;
    const dirty = Math.min(end, this.#touchedEnd) - address;
    if (dirty > 0) this.view(address, dirty).fill(0);
    this.#touchedEnd = Math.max(this.#touchedEnd, end);
    return address;
  }

  release(address: number): void {
    this.#allocator.free(address);
  }

  view(address: number, byteLength: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer, address, byteLength);
  }

  #grow(byteLength: number): number | null {
    const pages = Math.ceil(this.#allocator.shortfall(byteLength) / PAGE_BYTES);
    if (this.#pages + pages > MAX_PAGES[this.#bits]) return null;
    try {
      growMemory(this.#memory, this.#bits, pages);
    } catch (error) {
      if (error instanceof RangeError) return null;
      throw error;
    }
    this.#pages += pages;
    this.#allocator.grow(this.#pages * PAGE_BYTES);
    return this.#allocator.allocate(byteLength);
  }
}

function openMemory(bits: WasmBits, name: string): WebAssembly.Memory {
  const initial = INITIAL_PAGES, maximum = MAX_PAGES[bits];
  try {
    if (bits === 32) return new WebAssembly.Memory({ initial, maximum, shared: true });
    const memory: unknown = Reflect.construct(WebAssembly.Memory, [
      { address: "i64", initial: BigInt(initial), maximum: BigInt(maximum), shared: true },
    ]);
    if (memory instanceof WebAssembly.Memory) return memory;
    throw new TypeError("WebAssembly.Memory made something else");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DeviceError(
      `Cannot open ${name}: no shared memory of up to ${maximum * PAGE_BYTES} bytes (${reason})`,
    );
  }
}

// The 64-bit proposal takes bigints where TypeScript's declarations say number.
function growMemory(memory: WebAssembly.Memory, bits: WasmBits, pages: number): void {
  Reflect.apply(memory.grow, memory, [bits === 32 ? pages : BigInt(pages)]);
}

function isKernels(exports: object): exports is CpuKernels {
  return missing(exports).length === 0;
}

function missing(exports: object): string[] {
  return Object.keys(CPU_SYMBOLS).filter((name) =>
    typeof Reflect.get(exports, name) !== "function"
  );
}

function missingSymbols(exports: object): string {
  return `kernels/dist lacks ${missing(exports).join(", ")}; run \`deno task kernels\``;
}

function heapBase(exports: object): number {
  const base: unknown = Reflect.get(exports, "__heap_base");
  if (!(base instanceof WebAssembly.Global)) throw new TypeError("The module lacks __heap_base");
  return Number(base.value);
}

/** Resolves when the worker is about to enter the kernels; from then on it takes part in every operation. */
function startWorker(workers: Worker[], start: WorkerStart): Promise<void> {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  workers.push(worker);
  return new Promise((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new DeviceError(`Cannot start a worker thread: ${event.message}`));
    };
    worker.postMessage(start);
  });
}
