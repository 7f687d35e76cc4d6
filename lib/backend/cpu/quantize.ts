// Converting between element types on the CPU.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";
import { dtypeCode } from "./kernels.ts";

/** Binds kernels/c/quantize.c; allocates nothing per call. */
export function quantizeOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    cast(dst, src) {
      kernels.cast_elements(
        context,
        cpu.output(dst),
        dtypeCode(dst.dtype),
        cpu.input(src),
        dtypeCode(src.dtype),
        elementCount(dst.shape),
      );
    },
    quantize(dst, src) {
      kernels.quantize_elements(
        context,
        cpu.output(dst),
        dtypeCode(dst.dtype),
        cpu.input(src),
        dtypeCode(src.dtype),
        elementCount(dst.shape),
      );
    },
  } satisfies Partial<Ops>;
}
