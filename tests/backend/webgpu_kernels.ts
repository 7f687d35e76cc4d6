// The WebGPU kernels that this adapter is not given: those for graphics hardware where a processor plays it, and the
// other way round; and products in pieces, as where an adapter's bindings are smaller than a weight. All must compute the
// same everywhere.

import { webgpuBackend } from "../../lib/backend/webgpu/backend.ts";
import { type AdapterReport, openDevice } from "../../lib/backend/webgpu/device.ts";
import type { TestDevice } from "./devices.ts";
import { adapter, webgpuMissing } from "./webgpu_adapter.ts";

/** Fewer than 64 rows of the widest operands of the linear cases. */
const SMALL_BINDING_BYTES = 2 ** 19;

/** What every adapter has, by the WebGPU specification. */
const LEAST_LIMITS: AdapterReport["limits"] = {
  maxStorageBufferBindingSize: 2 ** 27,
  maxBufferSize: 2 ** 28,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 2 ** 14,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** The kernels for graphics hardware, whatever the adapter is, on a device with the least limits that there are. */
export const HARDWARE_KERNELS: TestDevice = changed(
  "kernels for hardware",
  (report) => ({ ...report, isSoftware: false }),
  LEAST_LIMITS,
);

const SOFTWARE_KERNELS = changed(
  "kernels for software",
  (report) => ({ ...report, isSoftware: true }),
);

const SMALL_BINDINGS = changed("bindings of 512 KiB", (report) => ({
  ...report,
  limits: { ...report.limits, maxStorageBufferBindingSize: SMALL_BINDING_BYTES },
}));

/** The devices on which a family runs besides `webgpu`. */
export function otherWebgpuKernels(family: string): readonly TestDevice[] {
  const otherKind = adapter?.isSoftware ? HARDWARE_KERNELS : SOFTWARE_KERNELS;
  if (family === "linear") return [otherKind, SMALL_BINDINGS];
  return family === "attention" ? [otherKind] : [];
}

/** The adapter's device with these limits, under a changed report of the adapter. */
function changed(
  what: string,
  change: (report: AdapterReport) => AdapterReport,
  limits?: AdapterReport["limits"],
): TestDevice {
  const open = async () => {
    const gpu = await openDevice(limits);
    return webgpuBackend({ ...gpu, adapter: change(gpu.adapter) });
  };
  return {
    name: `webgpu with ${what}`,
    missing: webgpuMissing,
    variants: [open, open],
  };
}
