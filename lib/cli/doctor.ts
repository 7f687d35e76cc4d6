// deno-lint-ignore-file no-console
// `tinyllama doctor`: which devices this machine offers, what they need, and how to get what is missing.

import { Command } from "commander";
import { findNative, type NativeSearch } from "../backend/cpu/native.ts";
import {
  CUDA_REMEDY,
  describeDevice as describeCuda,
  openDevice as openCuda,
} from "../backend/cuda/device.ts";
import { findCuda } from "../backend/cuda/libraries.ts";
import { openBackend } from "../backend/open.ts";
import { ADAPTER_REMEDY, type AdapterReport, findAdapters } from "../backend/webgpu/device.ts";
import { TinyllamaError } from "../core/errors.ts";
import { VERSION } from "./program.ts";

/** One device as `--device` takes it. */
interface DeviceReport {
  readonly device: string;
  readonly isReady: boolean;
  /** What it is, or why it cannot be used. */
  readonly detail: string;
  /** How to get it; empty when it is ready. */
  readonly remedy: string;
}

interface Report {
  readonly version: string;
  readonly deno: string;
  readonly system: string;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly availableBytes: number;
  /** As the native library reports them; empty without one. */
  readonly cpuFeatures: readonly string[];
  readonly devices: readonly DeviceReport[];
  /** What WebGPU finds, the adapter that `--device webgpu` takes first. */
  readonly adapters: readonly AdapterReport[];
  /** The device that `--device auto` takes; `none` and why where its choice cannot be used. */
  readonly auto: string;
}

const EXAMPLES = `
Examples:
  tinyllama doctor
  tinyllama doctor --json`;

/** The subcommand. */
export function doctorCommand(): Command {
  return new Command("doctor")
    .description("Show devices, CPU features and libraries, and how to get what is missing")
    .option("--json", "print one JSON object")
    .addHelpText("after", EXAMPLES)
    .action(async ({ json }: { json?: true }) => {
      const report = await examine();
      console.log(json ? JSON.stringify(report, null, 2) : reportText(report));
    });
}

async function examine(): Promise<Report> {
  const adapters = await findAdapters();
  const search = searchNative();
  const { total, available } = Deno.systemMemoryInfo();
  return {
    version: VERSION,
    deno: Deno.version.deno,
    system: `${Deno.build.os} ${Deno.build.arch}, ${Deno.osRelease()}`,
    processors: navigator.hardwareConcurrency,
    memoryBytes: total,
    availableBytes: available,
    cpuFeatures: search instanceof Error || search.kind === "missing" ? [] : search.build.features,
    devices: [
      await examineCuda(),
      await examineWebgpu(adapters),
      await examineNative(search),
      await examineDevice("cpu:wasm", "update Deno: WebAssembly threads and SIMD are needed"),
      await examineDevice("cpu:wasm64", "update Deno: 64-bit WebAssembly memories are needed"),
    ],
    adapters,
    auto: await chosenDevice(),
  };
}

function searchNative(): NativeSearch | TinyllamaError {
  try {
    return findNative();
  } catch (error) {
    if (error instanceof TinyllamaError) return error;
    throw error;
  }
}

async function examineNative(search: NativeSearch | TinyllamaError): Promise<DeviceReport> {
  const remedy = "install gcc or clang (Debian: apt-get install gcc libc6-dev), then run " +
    "`deno task kernels`; or set TINYLLAMA_KERNELS to a folder with the libraries";
  const device = "cpu:native";
  if (search instanceof Error) return { device, isReady: false, detail: search.message, remedy };
  if (search.kind === "missing") {
    const detail = `not built for this machine; looked for ${search.tried.join(", ")}`;
    return { device, isReady: false, detail, remedy };
  }
  const report = await examineDevice(device, remedy);
  if (!report.isReady) return report;
  const precisions = search.build.hasBf16 ? "f32 and bf16 products" : "f32 products";
  return { ...report, detail: `${report.detail}, ${precisions}, ${search.build.path}` };
}

/** Opened as a backend too: the driver must take the kernels. */
async function examineCuda(): Promise<DeviceReport> {
  const device = "cuda", search = findCuda();
  if (search.kind === "missing") {
    const tried = search.tried.map((line) => line.split(": ")[0]).join(", ");
    const detail = `${search.reason}${tried === "" ? "" : `; looked for ${tried}`}`;
    return { device, isReady: false, detail, remedy: CUDA_REMEDY };
  }
  try {
    using opened = openCuda(search);
    const report = await examineDevice(device, CUDA_REMEDY);
    return report.isReady ? { ...report, detail: describeCuda(opened) } : report;
  } catch (error) {
    if (!(error instanceof TinyllamaError)) throw error;
    return { device, isReady: false, detail: error.message, remedy: CUDA_REMEDY };
  }
}

function examineWebgpu(adapters: readonly AdapterReport[]): Promise<DeviceReport> {
  const device = "webgpu", remedy = ADAPTER_REMEDY;
  if (adapters.length > 0) return examineDevice(device, remedy);
  return Promise.resolve({ device, isReady: false, detail: "no adapter", remedy });
}

async function examineDevice(device: string, remedy: string): Promise<DeviceReport> {
  try {
    return { device, isReady: true, detail: await nameOf(device), remedy: "" };
  } catch (error) {
    if (!(error instanceof TinyllamaError)) throw error;
    return { device, isReady: false, detail: error.message, remedy };
  }
}

async function chosenDevice(): Promise<string> {
  const { isReady, detail } = await examineDevice("auto", "");
  return isReady ? detail : `none: ${detail}`;
}

/** The name a device gives itself when opened. */
async function nameOf(device: string): Promise<string> {
  using backend = await openBackend({ device, threads: null, matmul: "auto" });
  return backend.info.name;
}

function reportText(report: Report): string {
  const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const features = report.cpuFeatures.join(", ");
  return [
    `tinyllama ${report.version} on Deno ${report.deno}`,
    `system      ${report.system}`,
    `processors  ${report.processors}${features === "" ? "" : ` (${features})`}`,
    `memory      ${gigabytes(report.memoryBytes)}, ${gigabytes(report.availableBytes)} available`,
    "",
    "devices",
    ...report.devices.flatMap(deviceLines),
    "",
    "adapters of webgpu",
    ...(report.adapters.length === 0 ? ["  none"] : report.adapters.flatMap(adapterLines)),
    "",
    `--device auto takes ${report.auto}`,
  ].join("\n");
}

function deviceLines({ device, isReady, detail, remedy }: DeviceReport): string[] {
  const line = `  ${device.padEnd(12)} ${isReady ? "ready  " : "missing"}  ${detail}`;
  return isReady ? [line] : [line, `${" ".repeat(24)}to get it: ${remedy}`];
}

function adapterLines({ description, isSoftware, features, limits }: AdapterReport): string[] {
  const mebibytes = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
  const kind = isSoftware ? "software, slower than --device cpu" : "hardware";
  return [
    `  ${description} (${kind})`,
    `    bindings up to ${mebibytes(limits.maxStorageBufferBindingSize)}, ` +
    `buffers up to ${mebibytes(limits.maxBufferSize)}, ` +
    `${limits.maxComputeInvocationsPerWorkgroup} threads and ` +
    `${limits.maxComputeWorkgroupStorageSize / 1024} KiB a workgroup`,
    `    features: ${features.length === 0 ? "none of those used" : features.join(", ")}`,
  ];
}
