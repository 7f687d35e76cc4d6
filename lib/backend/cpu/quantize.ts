// Converting between element types on the CPU.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import { dtypeCode } from "../dtype_code.ts";
import type { CpuContext } from "./context.ts";
import type { CpuKernels } from "./kernels.ts";

/** Binds kernels/c/quantize.c; allocates nothing per call. */
export function quantizeOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  const by = (kernel: CpuKernels["cast_elements"]): Ops["cast"] => (dst, src) =>
    kernel(
      context,
      cpu.output(dst),
      dtypeCode(dst.dtype),
      cpu.input(src),
      dtypeCode(src.dtype),
      elementCount(dst.shape),
    );
  return {
    cast: by(kernels.cast_elements),
    quantize: by(kernels.quantize_elements),
  } satisfies Partial<Ops>;
}
