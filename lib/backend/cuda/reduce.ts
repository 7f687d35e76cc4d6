// Sums in a fixed order on CUDA, and the clip factor made of them.

import ptx from "../../../kernels/dist/reduce.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import { type CudaContext, type CudaKernel, f32, i32 } from "./context.ts";

const THREADS = 512;
/** f32 numbers a thread reads at a time. */
const WIDTH = 4;
/** Enough to fill the largest device; fixed, so that sums do not depend on it. */
const MAX_BLOCKS = 1024;
/** Partial sums are f64. */
const F32_PER_PARTIAL = 2;

/** Loads kernels/cuda/reduce.cu; allocates nothing per call. */
export function reduceOps(cuda: CudaContext) {
  const kernels = cuda.load("reduce", ptx, [
    ...["reduce_sum", "reduce_sum_of_squares", "reduce_partial", "reduce_clip_scale"] as const,
  ]);
  const reduce = (kernel: CudaKernel, out: Tensor, x: Tensor) => {
    const count = elementCount(x.shape);
    const blocks = Math.min(MAX_BLOCKS, Math.ceil(count / (WIDTH * THREADS)));
    const partial = cuda.scratch(F32_PER_PARTIAL * Math.max(1, blocks));
    cuda.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, [partial, x, i32(count)]);
    const args = [out, partial, i32(blocks)];
    cuda.launch(kernels.reduce_partial, [1, 1, 1], [THREADS, 1, 1], 0, args);
  };
  return {
    sum(out, x) {
      reduce(kernels.reduce_sum, out, x);
    },
    sumOfSquares(out, x) {
      reduce(kernels.reduce_sum_of_squares, out, x);
    },
    clipScale(out, squares, loss, maxNorm) {
      const args = [out, squares, i32(elementCount(squares.shape)), loss, f32(maxNorm)];
      cuda.launch(kernels.reduce_clip_scale, [1, 1, 1], [32, 1, 1], 0, args);
    },
  } satisfies Partial<Ops>;
}
