// Root mean square norm on WebGPU, forward and backward.

import rmsnorm from "../../../kernels/wgsl/rmsnorm.wgsl" with { type: "text" };
import workgroupSum from "../../../kernels/wgsl/workgroup_sum.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, reshape } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;
/** Threads of a row where there are at least as many rows: they wait less for each other. */
const NARROW_GROUP = 64;
/** Rows whose products are added up by one thread; raised where there would be more than MAX_CHUNKS. */
const CHUNK_ROWS = 16;
const MAX_CHUNKS = 64;

/** Compiles kernels/wgsl/rmsnorm.wgsl; allocates nothing per call. */
export async function rmsnormOps(gpu: GpuContext) {
  const constants = { GROUP }, narrow = { GROUP: NARROW_GROUP };
  const kernels = await gpu.compile("rmsnorm", [workgroupSum, rmsnorm], {
    forward: { entryPoint: "forward", constants: narrow },
    forwardFew: { entryPoint: "forward", constants },
    backwardInput: { entryPoint: "backward_input", constants: narrow },
    weightChunks: { entryPoint: "weight_chunks", constants },
    weightSum: { entryPoint: "weight_sum", constants },
  });
  return {
    rmsnormForward(out, rstd, x, weight, eps) {
      const c = elementCount(weight.shape), n = elementCount(x.shape) / c;
      for (const [first, end] of rowRanges(gpu, n, 4 * c)) {
        const part = (tensor: typeof x) => rowsOf(tensor, n, first, end);
        const keepsRstd = rstd === null ? 0 : 1;
        gpu.run(
          n < NARROW_GROUP ? kernels.forwardFew : kernels.forward,
          [part(out), rstd === null ? null : part(rstd), part(x), weight],
          [end - first, c, keepsRstd],
          [eps],
          end - first,
        );
      }
    },
    rmsnormBackward(dX, dWeight, dOut, x, weight, rstd) {
      const c = elementCount(weight.shape), n = elementCount(x.shape) / c;
      const ranges = rowRanges(gpu, n, 4 * c);
      const chunkRows = Math.max(CHUNK_ROWS, Math.ceil(n / (MAX_CHUNKS - ranges.length)));
      const columns = Math.ceil(c / GROUP);
      const partial = reshape(gpu.scratch(MAX_CHUNKS * c), [MAX_CHUNKS, c]);
      let chunk = 0;
      for (const [first, end] of ranges) {
        const part = (tensor: typeof x) => rowsOf(tensor, n, first, end);
        const rows = end - first, chunks = Math.ceil(rows / chunkRows);
        gpu.run(
          kernels.backwardInput,
          [part(dX), part(dOut), part(x), weight, part(rstd)],
          [rows, c],
          [],
          rows,
        );
        gpu.run(
          kernels.weightChunks,
          [partial, part(dOut), part(x), part(rstd)],
          [rows, c, chunkRows, columns, chunk],
          [],
          chunks * columns,
        );
        chunk += chunks;
      }
      gpu.run(kernels.weightSum, [dWeight, partial], [chunk, c], [], columns);
    },
  } satisfies Partial<Ops>;
}
