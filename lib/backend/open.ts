// From a device's name to a backend. A device that was asked for by name and is not there is an error, never a fallback.

import type { Backend } from "../core/backend.ts";
import { DeviceError, UsageError } from "../core/errors.ts";
import { cpuBackend } from "./cpu/backend.ts";
import type { CpuMachine } from "./cpu/machine.ts";
import { findNative, openNative } from "./cpu/native.ts";
import { openWasm } from "./cpu/wasm.ts";
import { openDevice as openCudaDevice } from "./cuda/device.ts";
import { closeLibraries, type CudaSearch, findCuda } from "./cuda/libraries.ts";
import { webgpuBackend } from "./webgpu/backend.ts";
import { findAdapter, openDevice } from "./webgpu/device.ts";

/** The devices of this build, as `--device` takes them. */
export const DEVICE_NAMES = [
  "auto",
  "cpu",
  "cpu:native",
  "cpu:wasm",
  "cpu:wasm64",
  "webgpu",
  "cuda",
] as const;
type DeviceName = typeof DEVICE_NAMES[number];
type CpuName = Exclude<DeviceName, "auto" | "webgpu" | "cuda">;

const MAX_THREADS = 256;
const WASM32_BYTES = 4 * 1024 ** 3;

/** Which device, and how it computes. */
export interface BackendOptions {
  /**
   * One of {@linkcode DEVICE_NAMES}. `auto` is cuda where its libraries and a card are there, else webgpu where there is a
   * graphics card, else cpu, which prefers the native kernels where they were built.
   */
  readonly device: string;
  /** Of the CPU; null means one per logical processor. */
  readonly threads: number | null;
  /**
   * What matrix products round their operands to; `auto` is bf16 on cuda and where the CPU multiplies it in hardware. On
   * cuda it is the type of weights and activations as well.
   */
  readonly matmul: "f32" | "bf16" | "auto";
  /** About how much will be allocated; WASM uses 64-bit addresses when it does not fit into 4 GiB. */
  readonly memoryBytes?: number;
}

/**
 * Opens a device; dispose it to end its threads. The choice made shows in `info.name`.
 * @throws {UsageError} for an unknown device name or thread count.
 * @throws {DeviceError} when the device is not there or lacks what was asked for.
 */
export async function openBackend(options: BackendOptions): Promise<Backend> {
  const threads = options.threads ?? Math.min(MAX_THREADS, navigator.hardwareConcurrency);
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new UsageError(
      `Cannot use ${threads} threads: expected a whole number from 1 to ${MAX_THREADS}`,
    );
  }
  const parsed = parseDevice(options.device);
  if (parsed === "cuda") return openCuda(options);
  if (parsed === "auto") {
    const search = findCuda();
    if (search.kind === "found") return openCuda(options, search);
  }
  const name = await chooseDevice(parsed, options);
  if (name === "webgpu") return openWebgpu(options);
  const machine = await openMachine(name, threads, options.memoryBytes ?? 0);
  if (options.matmul === "bf16" && !machine.hasBf16) {
    machine[Symbol.dispose]();
    throw new DeviceError(
      `Cannot multiply in bf16 on ${machine.name}: it needs the native kernels and a CPU with ` +
        `AVX-512 BF16 and VNNI, or NEON bf16; use f32 or auto`,
    );
  }
  const isBf16 = options.matmul !== "f32" && machine.hasBf16;
  return cpuBackend(machine, isBf16 ? "bf16" : "f32");
}

/**
 * The kind of device that {@linkcode openBackend} would open, without opening it. `auto` looks what there is.
 * @throws {UsageError} for an unknown device name.
 */
export async function kindOfDevice(
  options: Pick<BackendOptions, "device" | "matmul">,
): Promise<Backend["kind"]> {
  const parsed = parseDevice(options.device);
  if (parsed === "cuda") return "cuda";
  if (parsed === "auto") {
    const search = findCuda();
    if (search.kind === "found") {
      closeLibraries(search.libraries);
      return "cuda";
    }
  }
  return await chooseDevice(parsed, options) === "webgpu" ? "webgpu" : "cpu";
}

async function openCuda({ matmul }: BackendOptions, search?: CudaSearch): Promise<Backend> {
  // Two megabytes of PTX, which only who uses them should read.
  const { cudaBackend } = await import("./cuda/backend.ts");
  return cudaBackend(openCudaDevice(search), matmul === "f32" ? "f32" : "bf16");
}

/** Without CUDA, products in bf16 are the CPU's alone, so asking for them decides `auto`. */
async function chooseDevice(
  name: CpuName | "webgpu" | "auto",
  { matmul }: Pick<BackendOptions, "matmul">,
): Promise<CpuName | "webgpu"> {
  if (name !== "auto") return name;
  if (matmul === "bf16") return "cpu";
  const adapter = await findAdapter();
  return adapter === null || adapter.isSoftware ? "cpu" : "webgpu";
}

async function openWebgpu({ matmul }: BackendOptions): Promise<Backend> {
  if (matmul === "bf16") {
    throw new DeviceError(
      "Cannot multiply in bf16 on webgpu: it multiplies in f32; use f32 or auto",
    );
  }
  return webgpuBackend(await openDevice());
}

function parseDevice(text: string): DeviceName {
  const name = DEVICE_NAMES.find((one) => one === text);
  if (name !== undefined) return name;
  throw new UsageError(
    `Cannot use device "${text}": this build has ${DEVICE_NAMES.join(", ")} ` +
      "(`tinyllama doctor` shows which are ready)",
  );
}

function openMachine(name: CpuName, threads: number, memoryBytes: number): Promise<CpuMachine> {
  const wasmBits = memoryBytes > WASM32_BYTES ? 64 : 32;
  switch (name) {
    case "cpu": {
      const search = findNative();
      if (search.kind === "missing") return openWasm(wasmBits, threads);
      return Promise.resolve(openNative(search.build, threads));
    }
    case "cpu:native": {
      const search = findNative();
      if (search.kind === "found") return Promise.resolve(openNative(search.build, threads));
      throw new DeviceError(
        "Cannot use cpu:native: the native kernels are not built for this machine. Run " +
          "`deno task kernels` (needs gcc or clang), set TINYLLAMA_KERNELS to a folder that has them, " +
          `or use cpu:wasm. Looked for:\n  ${search.tried.join("\n  ")}`,
      );
    }
    case "cpu:wasm":
      return openWasm(wasmBits, threads);
    case "cpu:wasm64":
      return openWasm(64, threads);
    default:
      return name satisfies never;
  }
}
