// The CUDA device of the GPU benches, a card or, where TINYLLAMA_CUDA_SIM=1 asks for it, the simulator: a backend on it, a
// clock that runs on the device, and how much of its memory is taken.

import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { type CudaDevice, openDevice, peakBf16Flops } from "../../lib/backend/cuda/device.ts";
import { versionText } from "../../lib/backend/cuda/libraries.ts";
import { CudaStream } from "../../lib/backend/cuda/stream.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { cudaForTests } from "../cuda_sim/device.ts";
import { EventClock } from "./gpu_clock.ts";

/** A backend in bf16 on the device, and what is measured around it. */
export interface BenchBackend extends Disposable {
  readonly backend: Backend;
  readonly device: CudaDevice;
  readonly clock: EventClock;
  /** Bytes of the device that are taken now and were not before the backend was opened. */
  takenBytes(): number;
}

/** What reports say of the device. */
export interface CardDescription {
  readonly name: string;
  readonly capability: string;
  readonly multiprocessors: number;
  readonly clockMhz: number;
  readonly memoryBytes: number;
  /** The newest CUDA that the driver runs, and the driver's own version where the system tells it. */
  readonly driver: string;
  readonly runtime: string;
  /** Peak of dense bf16 products in FLOP/s: the data sheet's where it is known, else by clock; null for other cards. */
  readonly peakFlops: number | null;
}

/** Dense bf16 rates of NVIDIA's data sheets in TFLOP/s, by a part of the card's name; the first that fits counts. */
const SHEET_TFLOPS: readonly (readonly [part: RegExp, tflops: number])[] = [
  [/H100 PCIe/, 756],
  [/H100 NVL/, 835],
  [/H100|H200|GH200/, 989],
  [/A100/, 312],
  [/L40S/, 362],
];

/** @throws {DeviceError} where there is neither; lists what was tried. */
export async function openBenchDevice(): Promise<CudaDevice> {
  if (Deno.env.get("TINYLLAMA_CUDA_SIM") !== "1") return openDevice();
  return (await cudaForTests()).openDevice();
}

/** Opens the device with a backend. @throws {DeviceError} as {@linkcode openBenchDevice} does. */
export async function openBenchBackend(): Promise<BenchBackend> {
  using opening = new DisposableStack();
  const device = opening.use(await openBenchDevice());
  const { freeBytes } = device.memoryInfo();
  opening.move();
  const stream = new CudaStream(device);
  const backend = cudaBackend(device, "bf16", stream);
  const clock = new EventClock(device, stream);
  return {
    backend,
    device,
    clock,
    takenBytes: () => freeBytes - device.memoryInfo().freeBytes,
    [Symbol.dispose]() {
      clock[Symbol.dispose]();
      backend[Symbol.dispose]();
    },
  };
}

/** Runs with the variable `name` set for the backends that are opened meanwhile, then as before. */
export async function withSwitch<T>(
  name: string,
  value: "0" | "1",
  run: () => Promise<T>,
): Promise<T> {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    return await run();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

/** Asks the device and the system what they are. */
export function describeCard(device: CudaDevice): CardDescription {
  const module = driverModuleVersion(),
    sheet = SHEET_TFLOPS.find(([part]) => part.test(device.name));
  return {
    name: device.name,
    capability: device.capability.join("."),
    multiprocessors: device.multiprocessors,
    clockMhz: Math.round(device.clockHz / 1e6),
    memoryBytes: device.memoryInfo().totalBytes,
    driver: `CUDA ${versionText(device.driverVersion)}${module === null ? "" : `, ${module}`}`,
    runtime: `CUDA ${versionText(device.runtimeVersion)}`,
    peakFlops: sheet === undefined ? peakBf16Flops(device) : sheet[1] * 1e12,
  };
}

/** Such as 550.54.15; null where the kernel module does not tell. */
function driverModuleVersion(): string | null {
  try {
    const text = Deno.readTextFileSync("/proc/driver/nvidia/version");
    return /Kernel Module.*?\s(\d+\.\d[\d.]*)/.exec(text)?.[1] ?? null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
