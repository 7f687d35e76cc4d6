// One CUDA device: its libraries with the check of their statuses, and what it is. Opening it makes its primary context
// current on this thread.

import { CUDART } from "../../../ffi/cudart.ts";
import { DeviceError } from "../../core/errors.ts";
import {
  closeLibraries,
  type CudaLibraries,
  type CudaSearch,
  driverMessage,
  findCuda,
  versionText,
} from "./libraries.ts";

/** How to get what is missing. */
export const CUDA_REMEDY =
  "install NVIDIA's driver and the CUDA 11, 12 or 13 libraries libcudart and libcublasLt (the CUDA toolkit, or " +
  "`pip install nvidia-cublas nvidia-cuda-runtime`, with -cu12 behind both for CUDA 12); TINYLLAMA_CUDA_LIBRARIES names folders to look in first";

/** Throws when `status`, which the function `call` returned, is not success. */
export type StatusCheck = (call: string, status: number) => void;

/** An open device. Each `check…` is for the functions of its library. */
export interface CudaDevice extends Disposable {
  readonly driver: CudaLibraries["driver"]["symbols"];
  readonly runtime: CudaLibraries["runtime"]["symbols"];
  readonly blas: CudaLibraries["blas"]["symbols"];
  readonly checkDriver: StatusCheck;
  readonly checkRuntime: StatusCheck;
  readonly checkBlas: StatusCheck;
  readonly name: string;
  readonly driverVersion: number;
  readonly runtimeVersion: number;
  /** Compute capability, such as 8.6. */
  readonly capability: readonly [major: number, minor: number];
  readonly multiprocessors: number;
  readonly clockHz: number;
  readonly maxSharedBytes: number;
  readonly paths: readonly string[];
  /** TINYLLAMA_CUDA_DEBUG=1: every operation is waited for, so that a failure names it. */
  readonly isDebugging: boolean;
  /** Free and all memory of the device in bytes. */
  memoryInfo(): { readonly freeBytes: number; readonly totalBytes: number };
}

/** Failures of a kernel that show at a later call: illegal and misaligned addresses, launch failures. */
const LATE_STATUSES: readonly number[] = [
  CUDART.cudaErrorIllegalAddress,
  CUDART.cudaErrorLaunchTimeout,
  CUDART.cudaErrorHardwareStackError,
  CUDART.cudaErrorIllegalInstruction,
  CUDART.cudaErrorMisalignedAddress,
  CUDART.cudaErrorInvalidAddressSpace,
  CUDART.cudaErrorInvalidPc,
  CUDART.cudaErrorLaunchFailure,
];

/**
 * Opens the first device with the libraries that were found, which it then owns.
 * @throws {DeviceError} when there is no driver, device or library; lists what was tried.
 */
export function openDevice(search: CudaSearch = findCuda()): CudaDevice {
  if (search.kind === "missing") {
    const tried = search.tried.length === 0 ? "" : `\nTried:\n  ${search.tried.join("\n  ")}`;
    throw new DeviceError(`Cannot use cuda: ${search.reason}; ${CUDA_REMEDY}${tried}`);
  }
  const { libraries } = search;
  try {
    return describe(libraries);
  } catch (error) {
    closeLibraries(libraries);
    throw error;
  }
}

function describe(libraries: CudaLibraries): CudaDevice {
  const driver = libraries.driver.symbols, runtime = libraries.runtime.symbols;
  const isDebugging = Deno.env.get("TINYLLAMA_CUDA_DEBUG") === "1";
  const checkDriver = statusCheck(isDebugging, (status) => driverMessage(libraries.driver, status));
  const checkRuntime = statusCheck(isDebugging, (status) => runtimeMessage(runtime, status));
  const number = new Int32Array(1), text = new Uint8Array(256);
  checkRuntime("cudaSetDevice", runtime.cudaSetDevice(0));
  // Makes the primary context, which modules are then loaded into.
  checkRuntime("cudaFree", runtime.cudaFree(0n));
  checkDriver("cuDeviceGet", driver.cuDeviceGet(number, 0));
  checkDriver("cuDeviceGetName", driver.cuDeviceGetName(text, text.length, number[0]));
  checkRuntime("cudaRuntimeGetVersion", runtime.cudaRuntimeGetVersion(number));
  const runtimeVersion = number[0];
  const attribute = (code: number) => {
    checkRuntime("cudaDeviceGetAttribute", runtime.cudaDeviceGetAttribute(number, code, 0));
    return number[0];
  };
  const free = new BigUint64Array(1), total = new BigUint64Array(1);
  return {
    driver,
    runtime,
    blas: libraries.blas.symbols,
    checkDriver,
    checkRuntime,
    checkBlas: statusCheck(isDebugging, (status) => blasMessage(libraries.blas.symbols, status)),
    name: new TextDecoder().decode(text.subarray(0, text.indexOf(0))),
    driverVersion: libraries.driverVersion,
    runtimeVersion,
    capability: [
      attribute(CUDART.cudaDevAttrComputeCapabilityMajor),
      attribute(CUDART.cudaDevAttrComputeCapabilityMinor),
    ],
    multiprocessors: attribute(CUDART.cudaDevAttrMultiProcessorCount),
    clockHz: attribute(CUDART.cudaDevAttrClockRate) * 1000,
    maxSharedBytes: attribute(CUDART.cudaDevAttrMaxSharedMemoryPerBlockOptin),
    paths: libraries.paths,
    isDebugging,
    memoryInfo() {
      checkRuntime("cudaMemGetInfo", runtime.cudaMemGetInfo(free, total));
      return { freeBytes: Number(free[0]), totalBytes: Number(total[0]) };
    },
    [Symbol.dispose]: () => closeLibraries(libraries),
  };
}

function statusCheck(isDebugging: boolean, message: (status: number) => string): StatusCheck {
  return (call, status) => {
    if (status === 0) return;
    const isLate = LATE_STATUSES.includes(status) && !isDebugging;
    const hint = isLate ? "; TINYLLAMA_CUDA_DEBUG=1 names the operation that did it" : "";
    throw new DeviceError(
      `Cannot go on with cuda: ${call} failed with ${status}, ${message(status)}${hint}`,
    );
  };
}

function runtimeMessage(runtime: CudaDevice["runtime"], status: number): string {
  const text = runtime.cudaGetErrorString(status);
  return text === null ? "unknown error" : Deno.UnsafePointerView.getCString(text);
}

function blasMessage(blas: CudaDevice["blas"], status: number): string {
  const text = blas.cublasLtGetStatusString?.(status) ?? null;
  return text === null ? "a status of cublas_api.h" : Deno.UnsafePointerView.getCString(text);
}

/** One line for `tinyllama doctor`: name, memory, versions. */
export function describeDevice(device: CudaDevice): string {
  const { freeBytes, totalBytes } = device.memoryInfo();
  const gigabytes = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  return `${device.name}, compute ${device.capability.join(".")}, ` +
    `${gigabytes(freeBytes)} of ${gigabytes(totalBytes)} GiB free, driver for CUDA ` +
    `${versionText(device.driverVersion)}, runtime ${versionText(device.runtimeVersion)}, ` +
    device.paths.join(", ");
}

/** Operations a multiprocessor makes per clock in dense bf16 products with f32 sums, by compute capability. */
const BF16_RATES: Readonly<Record<string, number>> = {
  "8.0": 2048,
  "8.6": 512,
  "8.9": 512,
  "9.0": 4096,
};

/** Peak rate of bf16 products in FLOP/s at the rated clock; null for devices not in the table. */
export function peakBf16Flops(device: CudaDevice): number | null {
  const rate = BF16_RATES[device.capability.join(".")];
  return rate === undefined ? null : rate * device.multiprocessors * device.clockHz;
}
