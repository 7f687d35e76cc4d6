// Root mean square norm on CUDA, forward and backward.

import ptx from "../../../kernels/dist/rmsnorm.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import { type CudaContext, f32, i32 } from "./context.ts";
import { packWidth, rowBlocks, rowThreads, scalarOf } from "./geometry.ts";

/** Packs of a row that a thread has where there are at least so many rows: as in kernels/cuda/rmsnorm.cu. */
const KEPT = 8;
const MANY_ROWS = 1024;
const MAX_THREADS = 512;
/** Rows whose shares of dWeight one block adds up; raised where the device would not hold all blocks at once. */
const CHUNK_ROWS = 4;
const MAX_RESIDENT_BLOCKS = 3;
/** Columns and threads a column of a block that adds up chunks. */
const SUM_BLOCK = [32, 32, 1] as const;

/** Loads kernels/cuda/rmsnorm.cu; allocates nothing per call. */
export function rmsnormOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const forward = `rmsnorm_forward_${scalar}` as const;
  const backward = `rmsnorm_backward_${scalar}` as const;
  const kernels = cuda.load("rmsnorm", ptx, [forward, backward, "rmsnorm_sum_chunks"]);
  return {
    rmsnormForward(out, rstd, x, weight, eps) {
      const c = elementCount(weight.shape), n = elementCount(x.shape) / c;
      const packs = c / width / (n < MANY_ROWS ? 1 : KEPT);
      const { grid, block } = rowBlocks(n, Math.min(MAX_THREADS, packs));
      const args = [out, rstd, x, weight, i32(n), i32(c), f32(eps)];
      cuda.launch(kernels[forward], grid, block, 0, args);
    },
    rmsnormBackward(dX, dWeight, dOut, x, weight, rstd) {
      const c = elementCount(weight.shape), n = elementCount(x.shape) / c;
      const threads = Math.min(MAX_THREADS, rowThreads(c / width));
      const resident = cuda.multiprocessors * MAX_RESIDENT_BLOCKS;
      const chunkRows = Math.max(CHUNK_ROWS, Math.ceil(n / resident));
      const chunks = Math.ceil(n / chunkRows), partial = cuda.scratch(chunks * c);
      cuda.launch(
        kernels[backward],
        [chunks, 1, 1],
        [threads, 1, 1],
        0,
        [dX, partial, dOut, x, weight, rstd, i32(n), i32(c), i32(chunkRows)],
      );
      cuda.launch(
        kernels.rmsnorm_sum_chunks,
        [Math.ceil(c / SUM_BLOCK[0]), 1, 1],
        SUM_BLOCK,
        0,
        [dWeight, partial, i32(chunks), i32(c)],
      );
    },
  } satisfies Partial<Ops>;
}
