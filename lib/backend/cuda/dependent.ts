// Programmatic dependent launch, of compute capability 9.0 and later: a kernel's blocks come to the multiprocessors while the
// kernel before it ends, and it waits by itself for what that one writes. A decoding step is hundreds of small kernels, each
// of which needs the one before. Nobody has timed it yet (`deno task bench:gpu --only decode` does), so TINYLLAMA_CUDA_PDL=1
// has to ask for it.

import { CUDA, LAUNCH_ATTRIBUTE, LAUNCH_CONFIG } from "../../../ffi/cuda.ts";
import type { Precision } from "../../core/backend.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Extent } from "./context.ts";
import type { CudaDevice } from "./device.ts";
import { versionText } from "./libraries.ts";

const VARIABLE = "TINYLLAMA_CUDA_PDL";
const MIN_MAJOR = 9;
/** The first CUDA that captures such launches into graphs as what they are. */
const MIN_DRIVER = 12030;
/** Words of CUlaunchConfig. */
const STREAM = LAUNCH_CONFIG.streamOffset / 8, ATTRIBUTES = LAUNCH_CONFIG.attributesOffset / 8;
const SHARED_BYTES = 6, COUNT = LAUNCH_CONFIG.countOffset / 4;

/** Launches kernels that wait by themselves. `parameters` are as in cuLaunchKernel. @returns a CUresult. */
export type DependentLaunch = (
  handle: bigint,
  grid: Extent,
  block: Extent,
  sharedBytes: number,
  parameters: BigUint64Array<ArrayBuffer>,
) => number;

/**
 * How they are launched on this stream; null unless the variable asks for it and activations are bf16.
 * @throws {DeviceError} when it does on a card or with a driver that cannot.
 */
export function dependentLaunch(
  device: CudaDevice,
  stream: bigint,
  precision: Precision,
): DependentLaunch | null {
  if (Deno.env.get(VARIABLE) !== "1" || precision.compute !== "bf16") return null;
  const { driver, driverVersion, capability } = device;
  if (capability[0] < MIN_MAJOR) {
    throw new DeviceError(
      `Cannot use cuda: ${VARIABLE}=1 asks for launches of compute capability 9.0 and later, and the card has ` +
        capability.join("."),
    );
  }
  const launch = driver.cuLaunchKernelEx;
  if (launch === null || driverVersion < MIN_DRIVER) {
    throw new DeviceError(
      `Cannot use cuda: ${VARIABLE}=1 asks for a driver for CUDA ${
        versionText(MIN_DRIVER)
      }, and this one is for ` +
        `${versionText(driverVersion)}`,
    );
  }
  const attribute = new Int32Array(LAUNCH_ATTRIBUTE.byteLength / 4);
  attribute[0] = CUDA.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attribute[LAUNCH_ATTRIBUTE.valueOffset / 4] = 1;
  const bytes = new ArrayBuffer(LAUNCH_CONFIG.byteLength);
  const words = new Uint32Array(bytes), addresses = new BigUint64Array(bytes);
  addresses[STREAM] = stream;
  words[COUNT] = 1;
  return (handle, grid, block, sharedBytes, parameters) => {
    words.set(grid, 0);
    words.set(block, 3);
    words[SHARED_BYTES] = sharedBytes;
    // Taken anew, so that the attribute is alive as long as its address is used.
    addresses[ATTRIBUTES] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(attribute));
    return launch(words, handle, parameters, 0n);
  };
}
