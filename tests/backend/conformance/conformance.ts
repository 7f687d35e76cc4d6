// Runs the cases of one family on every device.

import type { Precision } from "../../../lib/core/backend.ts";
import {
  DEPENDENT_DEVICES,
  DEVICES,
  HOPPER_DEVICES,
  OLDER_NATIVE_BUILDS,
  onDevices,
  ROUNDING_DEVICES,
  type TestDevice,
} from "../devices.ts";
import { otherWebgpuKernels } from "../webgpu_kernels.ts";
import type { OpCase } from "./op_case.ts";

/** Registers `family on DEVICE` for every device, one step a case. Cases are made once for each precision. */
export function conformance(
  family: string,
  cases: (precision: Precision) => readonly OpCase[],
  devices: readonly TestDevice[] = allDevices(family),
): void {
  const made = new Map<string, readonly OpCase[]>();
  const casesFor = (precision: Precision) => {
    const key = JSON.stringify(precision);
    const known = made.get(key) ?? cases(precision);
    made.set(key, known);
    return known;
  };
  onDevices(family, devices, async (backends, t) => {
    for (const one of casesFor(backends[0].precision)) {
      await t.step(one.name, () => one.check(backends));
    }
  });
}

/** Families that a decoding step launches. */
const DECODING = /^(attention|embedding|kv_cache|linear|rmsnorm|rope|sampling|swiglu)\b/;

function allDevices(family: string): readonly TestDevice[] {
  const hopper = family.startsWith("attention") ? HOPPER_DEVICES : [];
  const dependent = DECODING.test(family) ? DEPENDENT_DEVICES : [];
  return [
    ...[...DEVICES, ...otherWebgpuKernels(family), ...ROUNDING_DEVICES, ...hopper, ...dependent],
    ...OLDER_NATIVE_BUILDS,
  ];
}
