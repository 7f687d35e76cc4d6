// The WebGPU kernels that this adapter is not given: those for graphics hardware where a processor plays it, and the
// other way round. They must compute the same everywhere.

import { webgpuBackend } from "../../lib/backend/webgpu/backend.ts";
import { findAdapter, openDevice } from "../../lib/backend/webgpu/device.ts";
import type { TestDevice } from "./devices.ts";

/** The families that choose kernels by the kind of adapter. */
const FAMILIES = ["attention", "linear"];

const adapter = await findAdapter();

async function open() {
  const gpu = await openDevice();
  const isSoftware = !gpu.adapter.isSoftware;
  return webgpuBackend({ ...gpu, adapter: { ...gpu.adapter, isSoftware } });
}

/** One device more for the families that have other kernels. */
export function otherWebgpuKernels(family: string): readonly TestDevice[] {
  if (!FAMILIES.includes(family)) return [];
  return [{
    name: `webgpu with kernels for ${adapter?.isSoftware ? "hardware" : "software"}`,
    missing: adapter === null ? "no adapter: a driver with Vulkan is needed" : null,
    variants: [open, open],
  }];
}
