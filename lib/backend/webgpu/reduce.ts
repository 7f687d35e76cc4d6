// Sums in a fixed order on WebGPU, and the clip factor made of them.

import reduce from "../../../kernels/wgsl/reduce.wgsl" with { type: "text" };
import workgroupSum from "../../../kernels/wgsl/workgroup_sum.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import type { GpuContext, Kernel } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;
/** Elements that one workgroup adds up. */
const CHUNK = 64 * GROUP;

/** Compiles kernels/wgsl/reduce.wgsl; allocates nothing per call. */
export async function reduceOps(gpu: GpuContext) {
  const constants = { GROUP };
  const entryPoint = "sum_chunks";
  const kernels = await gpu.compile("reduce", [workgroupSum, reduce], {
    sumChunks: { entryPoint, constants: { GROUP, CHUNK, SQUARES: 0 } },
    squareChunks: { entryPoint, constants: { GROUP, CHUNK, SQUARES: 1 } },
    sumAll: { entryPoint: "sum_all", constants },
    clipScale: { entryPoint: "clip_scale", constants },
  });
  const sum = (kernel: Kernel, out: Tensor, x: Tensor) => {
    const count = elementCount(x.shape);
    if (count <= CHUNK) return gpu.run(kernel, [out, x], [count, 0], [], 1);
    const ranges = rowRanges(gpu, count, 4);
    const partial = gpu.scratch(Math.ceil(count / CHUNK) + ranges.length);
    let chunk = 0;
    for (const [first, end] of ranges) {
      const chunks = Math.ceil((end - first) / CHUNK);
      const part = rowsOf(x, count, first, end);
      gpu.run(kernel, [partial, part], [end - first, chunk], [], chunks);
      chunk += chunks;
    }
    gpu.run(kernels.sumAll, [out, partial], [chunk], [], 1);
  };
  return {
    sum(out, x) {
      sum(kernels.sumChunks, out, x);
    },
    sumOfSquares(out, x) {
      sum(kernels.squareChunks, out, x);
    },
    clipScale(out, squares, loss, maxNorm) {
      const count = elementCount(squares.shape);
      gpu.run(kernels.clipScale, [out, squares, loss], [count], [maxNorm], 1);
    },
  } satisfies Partial<Ops>;
}
