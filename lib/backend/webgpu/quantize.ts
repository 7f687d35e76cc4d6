// Converting between element types on WebGPU.

import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import quantize from "../../../kernels/wgsl/quantize.wgsl" with { type: "text" };
import { byteLengthOf, QUANT_BLOCK } from "../../core/dtype.ts";
import type { Ops } from "../../core/ops.ts";
import { elementCount, reshape, type Tensor } from "../../core/tensor.ts";
import type { GpuContext, Kernel } from "./context.ts";
import { weightTypeCode } from "./elements.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;

/** Compiles kernels/wgsl/quantize.wgsl; allocates nothing per call. */
export async function quantizeOps(gpu: GpuContext) {
  const constants = { GROUP };
  const kernels = await gpu.compile("quantize", [elements, quantize], {
    cast: { entryPoint: "convert", constants },
    quantize: { entryPoint: "quantize", constants },
  });
  /** `unit` elements are converted together, `perThread` by one thread. */
  const run = (kernel: Kernel, dst: Tensor, src: Tensor, unit: number, perThread: number) => {
    const types = [weightTypeCode(dst.dtype), weightTypeCode(src.dtype)];
    const count = elementCount(dst.shape) / unit;
    for (const [first, end] of rowRanges(gpu, count, byteLengthOf("f32", unit))) {
      const part = (tensor: Tensor) => unitsOf(tensor, unit, first, end);
      const elementsHere = (end - first) * unit;
      const groups = Math.ceil(elementsHere / perThread / GROUP);
      gpu.run(kernel, [part(dst), part(src)], [elementsHere, ...types], [], groups);
    }
  };
  return {
    cast(dst, src) {
      const unit = src.dtype === "q8_0" || src.dtype === "q4_0" ? QUANT_BLOCK : 1;
      run(kernels.cast, dst, src, unit, dst.dtype === "f32" ? 1 : 2);
    },
    quantize(dst, src) {
      run(kernels.quantize, dst, src, QUANT_BLOCK, 2 * QUANT_BLOCK);
    },
  } satisfies Partial<Ops>;
}

/** Units [first, end) of `unit` elements each. */
function unitsOf(tensor: Tensor, unit: number, first: number, end: number): Tensor {
  const count = elementCount(tensor.shape) / unit;
  return rowsOf(reshape(tensor, [count, unit]), count, first, end);
}
