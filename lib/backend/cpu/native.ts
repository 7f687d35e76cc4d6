// The kernels as a native library through FFI: finding the build for this machine's instruction set, memory by mmap.
// Threads are the library's own. Linux and macOS; elsewhere there is the WASM build.

import { CPU_SYMBOLS } from "../../../ffi/cpu.ts";
import {
  COPY_IN_SYMBOLS,
  COPY_OUT_SYMBOLS,
  LIBC,
  LIBC_NAMES,
  LIBC_SYMBOLS,
} from "../../../ffi/libc.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { DeviceError } from "../../core/errors.ts";
import type { CpuMachine, MappedFile } from "./machine.ts";

/** Bits of tl_cpu_features. */
const FEATURES = [
  ["avx2", 1],
  ["avx512", 2],
  ["vnni", 4],
  ["avx512bf16", 8],
  ["neon dot products", 16],
  ["neon bf16", 32],
] as const;

/** Builds by processor, fastest first, with the features each needs; names as kernels/build.ts gives them. */
const BUILDS = {
  x86_64: [["avx512bf16", 2 | 4 | 8], ["avx512", 2], ["avx2", 1], ["baseline", 0]],
  aarch64: [["bf16", 16 | 32], ["dotprod", 16], ["baseline", 0]],
} as const;

/** The native library for this machine. */
export interface NativeBuild {
  readonly path: string;
  readonly isa: string;
  readonly hasBf16: boolean;
  /** Names of all CPU features found, used or not. */
  readonly features: readonly string[];
}

/** A build, or the paths where one was looked for. */
export type NativeSearch =
  | { readonly kind: "found"; readonly build: NativeBuild }
  | { readonly kind: "missing"; readonly tried: readonly string[] };

/** Folders searched for libraries: the program's own, beside a compiled program, TINYLLAMA_KERNELS. */
function libraryFolders(): string[] {
  const folders: string[] = [];
  const own = new URL("../../../kernels/dist/", import.meta.url);
  if (own.protocol === "file:") folders.push(decodeURIComponent(own.pathname));
  if (Deno.build.standalone) folders.push(`${Deno.execPath().replace(/[^/]*$/, "")}kernels/dist/`);
  const named = Deno.env.get("TINYLLAMA_KERNELS");
  if (named !== undefined && named !== "") folders.push(named.replace(/\/*$/, "/"));
  return folders;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Looks for the fastest build that this CPU runs.
 * @throws {DeviceError} when the plainest build is there but does not load.
 */
export function findNative(): NativeSearch {
  const { os, arch } = Deno.build;
  if (os !== "linux" && os !== "darwin") {
    return { kind: "missing", tried: [`native kernels do not exist for ${os}`] };
  }
  const pathOf = (folder: string, isa: string) => `${folder}libtinyllama_${os}_${arch}_${isa}.so`;
  const folders = libraryFolders();
  const folder = folders.find((one) => exists(pathOf(one, "baseline")));
  if (folder === undefined) {
    return { kind: "missing", tried: folders.map((one) => pathOf(one, "baseline")) };
  }
  const bits = cpuFeatures(pathOf(folder, "baseline"));
  const features = FEATURES.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name);
  for (const [isa, needed] of BUILDS[arch]) {
    const path = pathOf(folder, isa);
    if ((bits & needed) !== needed || !exists(path)) continue;
    return { kind: "found", build: { path, isa, hasBf16: isa.endsWith("bf16"), features } };
  }
  return { kind: "missing", tried: [pathOf(folder, "baseline")] };
}

function cpuFeatures(path: string): number {
  const { tl_cpu_features } = CPU_SYMBOLS;
  const opened = openLibrary([path], { tl_cpu_features });
  if (opened.kind === "missing") throw notLoaded(opened.tried);
  const bits = opened.library.symbols.tl_cpu_features();
  opened.library.close();
  return bits;
}

function notLoaded(tried: readonly string[]): DeviceError {
  return new DeviceError(
    `Cannot load the native CPU kernels; build them again with \`deno task kernels\`. Tried:\n  ` +
      tried.join("\n  "),
  );
}

/**
 * Loads the library and starts its threads.
 * @throws {DeviceError} when it does not load or a thread cannot be started.
 */
export function openNative(build: NativeBuild, threads: number): CpuMachine {
  const name = `cpu:native (${build.isa}, ${threads} threads)`;
  const opened = openLibrary([build.path], CPU_SYMBOLS);
  if (opened.kind === "missing") throw notLoaded(opened.tried);
  using opening = new DisposableStack();
  opening.defer(() => opened.library.close());
  const kernels = opened.library.symbols;
  const pages = opening.use(new NativePages());
  const contextBytes = Number(kernels.tl_context_bytes(threads));
  const place = pages.reserve(contextBytes);
  if (place === null) throw new DeviceError(`Cannot open ${name}: no memory to be had`);
  opening.defer(() => pages.release(place, contextBytes));
  const context = BigInt(place);
  if (kernels.tl_context_open(context, threads) !== 0) {
    throw new DeviceError(`Cannot open ${name}: no thread to be had from the system`);
  }
  opening.defer(() => kernels.tl_context_close(context));
  const owned = opening.move();
  return {
    name,
    hasBf16: build.hasBf16,
    kernels,
    context,
    toAddress: BigInt,
    reserve: (bytes) => pages.reserve(bytes),
    release: (address, bytes) => pages.release(address, bytes),
    map: (path) => pages.map(path),
    unmap: (file) => pages.release(file.address, file.byteLength),
    write: (address, source) => pages.write(address, source),
    read: (address, bytes) => pages.read(address, bytes),
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
}

/** Anonymous and file mappings of this process. */
class NativePages implements Disposable {
  readonly #os = Deno.build.os === "darwin" ? "darwin" : "linux";
  readonly #libc = openLibc(LIBC_NAMES[this.#os], LIBC_SYMBOLS);
  readonly #copyIn = openLibc(LIBC_NAMES[this.#os], COPY_IN_SYMBOLS);
  readonly #copyOut = openLibc(LIBC_NAMES[this.#os], COPY_OUT_SYMBOLS);

  /** Zeroed pages; nothing is taken from the system before they are touched. */
  reserve(byteLength: number): number | null {
    const flags = LIBC.MAP_PRIVATE | LIBC.MAP_ANONYMOUS[this.#os];
    const size = BigInt(Math.max(1, byteLength));
    const address = this.#libc.symbols.mmap(0n, size, LIBC.PROT_READ_WRITE, flags, -1, 0n);
    if (address === LIBC.MAP_FAILED) return null;
    if (this.#os === "linux") this.#libc.symbols.madvise(address, size, LIBC.MADV_HUGEPAGE_LINUX);
    return Number(address);
  }

  release(address: number, byteLength: number): void {
    const size = BigInt(Math.max(1, byteLength));
    if (this.#libc.symbols.munmap(BigInt(address), size) !== 0) {
      throw new Error(`Cannot unmap ${byteLength} bytes at ${address}`);
    }
  }

  /** @throws {Deno.errors.NotFound} and its kin; @throws {DeviceError} when the system refuses to map it. */
  map(path: string): MappedFile {
    using file = Deno.openSync(path);
    const byteLength = file.statSync().size;
    if (byteLength === 0) throw new DeviceError(`Cannot map "${path}": it is empty`);
    const { open, close, mmap, madvise } = this.#libc.symbols;
    const fd = open(new TextEncoder().encode(`${path}\0`), LIBC.O_RDONLY);
    if (fd < 0) throw new DeviceError(`Cannot map "${path}": the system does not open it again`);
    const size = BigInt(byteLength);
    const address = mmap(0n, size, LIBC.PROT_READ, LIBC.MAP_PRIVATE, fd, 0n);
    close(fd);
    if (address === LIBC.MAP_FAILED) {
      throw new DeviceError(`Cannot map the ${byteLength} bytes of "${path}": mmap failed`);
    }
    madvise(address, size, LIBC.MADV_WILLNEED);
    return { address: Number(address), byteLength };
  }

  write(address: number, source: Uint8Array<ArrayBufferLike>): void {
    const bytes = source.buffer instanceof ArrayBuffer
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : source.slice();
    this.#copyIn.symbols.memcpy(BigInt(address), bytes, BigInt(source.byteLength));
  }

  read(address: number, byteLength: number): ArrayBuffer {
    const copy = new Uint8Array(byteLength);
    if (byteLength > 0) this.#copyOut.symbols.memcpy(copy, BigInt(address), BigInt(byteLength));
    return copy.buffer;
  }

  [Symbol.dispose](): void {
    this.#libc.close();
    this.#copyIn.close();
    this.#copyOut.close();
  }
}

function openLibc<S extends Deno.ForeignLibraryInterface>(
  names: readonly string[],
  symbols: S,
): Deno.DynamicLibrary<S> {
  const opened = openLibrary(names, symbols);
  if (opened.kind === "opened") return opened.library;
  throw new DeviceError(`Cannot load the C library. Tried:\n  ${opened.tried.join("\n  ")}`);
}
