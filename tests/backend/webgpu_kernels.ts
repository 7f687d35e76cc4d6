// The WebGPU kernels that this adapter is not given: those for graphics hardware where a processor plays it, and the
// other way round; and products in pieces, as where an adapter's bindings are smaller than a weight. All must compute the
// same everywhere.

import { webgpuBackend } from "../../lib/backend/webgpu/backend.ts";
import { type AdapterReport, openDevice } from "../../lib/backend/webgpu/device.ts";
import type { TestDevice } from "./devices.ts";
import { adapter, webgpuMissing } from "./webgpu_adapter.ts";

/** Fewer than 64 rows of the widest operands of the linear cases. */
const SMALL_BINDING_BYTES = 2 ** 19;

/** The devices on which a family runs besides `webgpu`. */
export function otherWebgpuKernels(family: string): readonly TestDevice[] {
  const kind = adapter?.isSoftware ? "hardware" : "software";
  const otherKind = changed(`kernels for ${kind}`, (report) => ({
    ...report,
    isSoftware: !report.isSoftware,
  }));
  const smallBindings = changed("bindings of 512 KiB", (report) => ({
    ...report,
    limits: { ...report.limits, maxStorageBufferBindingSize: SMALL_BINDING_BYTES },
  }));
  if (family === "linear") return [otherKind, smallBindings];
  return family === "attention" ? [otherKind] : [];
}

/** The adapter's device, under a changed report of the adapter. */
function changed(what: string, change: (report: AdapterReport) => AdapterReport): TestDevice {
  const open = async () => {
    const gpu = await openDevice();
    return webgpuBackend({ ...gpu, adapter: change(gpu.adapter) });
  };
  return {
    name: `webgpu with ${what}`,
    missing: webgpuMissing,
    variants: [open, open],
  };
}
