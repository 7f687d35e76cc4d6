// Converting between element types on CUDA.

import ptx from "../../../kernels/dist/quantize.ptx" with { type: "text" };
import { QUANT_BLOCK } from "../../core/dtype.ts";
import { UnsupportedError } from "../../core/errors.ts";
import type { Ops } from "../../core/ops.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import { dtypeCode } from "../dtype_code.ts";
import { type CudaContext, type CudaKernel, i32 } from "./context.ts";
import { flat } from "./geometry.ts";

/** Elements a thread converts. */
const CONVERTED = 16;

/** Loads kernels/cuda/quantize.cu; allocates nothing per call. */
export function quantizeOps(cuda: CudaContext) {
  const kernels = cuda.load("quantize", ptx, [
    ...["cast_f32", "cast_bf16", "cast_f16", "quantize_q8_0", "quantize_q4_0"] as const,
  ]);
  const kernelFor = ({ name, dtype }: Tensor): CudaKernel => {
    switch (dtype) {
      case "f32":
        return kernels.cast_f32;
      case "bf16":
        return kernels.cast_bf16;
      case "f16":
        return kernels.cast_f16;
      case "q8_0":
        return kernels.quantize_q8_0;
      case "q4_0":
        return kernels.quantize_q4_0;
      case "i32":
      case "u8":
        throw new UnsupportedError(`Cannot convert into "${name}" of ${dtype}`);
      default:
        return dtype satisfies never;
    }
  };
  const convert = (dst: Tensor, src: Tensor, perThread: number, unit: number) => {
    const count = elementCount(dst.shape), { grid, block } = flat(Math.ceil(count / perThread));
    const args = [dst, src, i32(dtypeCode(src.dtype)), i32(count / unit)];
    cuda.launch(kernelFor(dst), grid, block, 0, args);
  };
  return {
    cast: (dst, src) => convert(dst, src, CONVERTED, 1),
    quantize: (dst, src) => convert(dst, src, QUANT_BLOCK, QUANT_BLOCK),
  } satisfies Partial<Ops>;
}
