// From navigator.gpu to a device with every limit its adapter has. Errors of the device arrive late, as events: they are
// kept here and thrown where the host waits next.

import { DeviceError } from "../../core/errors.ts";

/** What an adapter is and can do, for choosing one and for `tinyllama doctor`. */
export interface AdapterReport {
  readonly description: string;
  /** True when the processor plays the graphics card: slower than the CPU kernels. */
  readonly isSoftware: boolean;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<typeof LIMITS[number], number>>;
}

const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
] as const;

const FEATURES: readonly GPUFeatureName[] = ["shader-f16", "subgroups"];

const REMEDY = "install the driver of your graphics card with its Vulkan part (Debian: " +
  "mesa-vulkan-drivers and libvulkan1, or NVIDIA's nvidia-driver), or use --device cpu";

/** An adapter's device, and the first error it reported. */
export interface WebgpuDevice extends Disposable {
  readonly device: GPUDevice;
  readonly adapter: AdapterReport;
  /** @throws {DeviceError} when the device was lost or refused something since the last call. */
  check(): void;
  /** Keeps a failure for the next `check`. */
  fail(doing: string, reason: string): void;
}

/** The adapter this system offers first, or null when there is none. */
export async function findAdapter(): Promise<AdapterReport | null> {
  const adapter = await requestAdapter();
  return adapter === null ? null : reportOf(adapter);
}

/** Which of wgpu's interfaces to the driver Deno takes. */
const DRIVER_VARIABLE = "DENO_WEBGPU_BACKEND";

function requestAdapter(): Promise<GPUAdapter | null> {
  const { gpu } = navigator;
  if (gpu === undefined) return Promise.resolve(null);
  // Graphics cards have Vulkan there; looking for OpenGL as well takes up to a second and writes to stderr.
  if (Deno.build.os === "linux" && Deno.env.get(DRIVER_VARIABLE) === undefined) {
    Deno.env.set(DRIVER_VARIABLE, "vulkan");
  }
  return gpu.requestAdapter({ powerPreference: "high-performance" });
}

function reportOf(adapter: GPUAdapter): AdapterReport {
  const { limits, features, info } = adapter;
  return {
    description: info.description || `${info.vendor} ${info.device}`,
    isSoftware: info.isFallbackAdapter || /llvmpipe|swiftshader|lavapipe/i.test(info.description),
    features: FEATURES.filter((feature) => features.has(feature)),
    limits: {
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxBufferSize: limits.maxBufferSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
      maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
    },
  };
}

/**
 * Opens the first adapter with all its limits and the features the kernels can use.
 * @throws {DeviceError} when there is no adapter or it gives no device; says what to install.
 */
export async function openDevice(): Promise<WebgpuDevice> {
  const found = await requestAdapter();
  if (found === null) {
    throw new DeviceError(`Cannot use webgpu: this system has no WebGPU adapter; ${REMEDY}`);
  }
  const adapter = reportOf(found);
  let device: GPUDevice;
  try {
    device = await found.requestDevice({
      requiredFeatures: FEATURES.filter((feature) => found.features.has(feature)),
      requiredLimits: adapter.limits,
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DeviceError(`Cannot use webgpu: ${adapter.description} gives no device: ${reason}`);
  }
  return watch(device, adapter);
}

function watch(device: GPUDevice, adapter: AdapterReport): WebgpuDevice {
  let failure: string | null = null;
  let isClosed = false;
  const fail = (doing: string, reason: string) => {
    failure ??= `Cannot ${doing} on webgpu (${adapter.description}): ${reason}`;
  };
  device.addEventListener("uncapturederror", (event) => {
    event.preventDefault();
    fail("compute", event instanceof GPUUncapturedErrorEvent ? event.error.message : event.type);
  });
  device.lost.then(({ message, reason }) => {
    if (!isClosed) fail("go on", `the device was lost (${reason}): ${message}`);
  });
  return {
    device,
    adapter,
    fail,
    check() {
      if (failure === null) return;
      const message = failure;
      failure = null;
      throw new DeviceError(message);
    },
    [Symbol.dispose]() {
      isClosed = true;
      device.destroy();
    },
  };
}
