// From navigator.gpu to a device with every limit its adapter has. Errors of the device arrive late, as events: they are
// kept here and thrown where the host waits next.

import { DeviceError } from "../../core/errors.ts";

/** What an adapter is and can do, for choosing one and for `tinyllama doctor`. */
export interface AdapterReport {
  readonly description: string;
  /** True when the processor plays the graphics card: slower than the CPU kernels. */
  readonly isSoftware: boolean;
  readonly features: readonly string[];
  /** Threads of the smallest subgroup where the adapter has subgroup operations, otherwise 0. */
  readonly subgroupMinSize: number;
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

/** Processors that play a graphics card: Mesa's, Chrome's and Windows's. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|microsoft basic render/i;

/** How to get an adapter. */
export const ADAPTER_REMEDY =
  "install the driver of your graphics card with its Vulkan part (Debian: " +
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

/** The adapters for speed and for battery life; one where they are the same. */
export async function findAdapters(): Promise<readonly AdapterReport[]> {
  const reports: AdapterReport[] = [];
  for (const preference of ["high-performance", "low-power"] as const) {
    const adapter = await requestAdapter(preference);
    if (adapter === null) continue;
    const report = reportOf(adapter);
    if (reports.every(({ description }) => description !== report.description)) {
      reports.push(report);
    }
  }
  return reports;
}

function requestAdapter(
  powerPreference: GPUPowerPreference = "high-performance",
): Promise<GPUAdapter | null> {
  prepareLinux();
  const { gpu } = navigator;
  if (gpu === undefined) return Promise.resolve(null);
  return gpu.requestAdapter({ powerPreference });
}

/**
 * Sets what the drivers read when `navigator.gpu` is first touched, unless the user has. Graphics cards have Vulkan on
 * Linux; looking for OpenGL as well takes up to a second. Mesa's layer for choosing a card by its display complains on
 * stderr where there is no display.
 */
function prepareLinux(): void {
  if (Deno.build.os !== "linux") return;
  const { env } = Deno;
  if (!env.has("DENO_WEBGPU_BACKEND")) env.set("DENO_WEBGPU_BACKEND", "vulkan");
  if (!env.has("XDG_RUNTIME_DIR") && !env.has("NODEVICE_SELECT")) env.set("NODEVICE_SELECT", "1");
}

function reportOf(adapter: GPUAdapter): AdapterReport {
  const { limits, features, info } = adapter;
  return {
    description: info.description || `${info.vendor} ${info.device}`,
    isSoftware: info.isFallbackAdapter || SOFTWARE.test(info.description),
    features: FEATURES.filter((feature) => features.has(feature)),
    subgroupMinSize: features.has("subgroups") ? info.subgroupMinSize : 0,
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
 * Opens the first adapter with all its limits, or with those given, and the features the kernels can use.
 * @throws {DeviceError} when there is no adapter or it gives no device; says what to install.
 */
export async function openDevice(limits?: AdapterReport["limits"]): Promise<WebgpuDevice> {
  const found = await requestAdapter();
  if (found === null) {
    throw new DeviceError(
      `Cannot use webgpu: this system has no WebGPU adapter; ${ADAPTER_REMEDY}`,
    );
  }
  const own = reportOf(found), adapter = limits === undefined ? own : { ...own, limits };
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
