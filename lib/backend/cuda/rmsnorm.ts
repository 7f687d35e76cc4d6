// Root mean square norm on CUDA, forward and backward.

import ptx from "../../../kernels/dist/rmsnorm.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/rmsnorm_90.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import { type CudaContext, f32, i32 } from "./context.ts";
import { packWidth, rowBlocks, rowThreads, scalarOf } from "./geometry.ts";

/** Packs of a row that a thread has where there are at least so many rows: as in kernels/cuda/rmsnorm.cu. */
const KEPT = 8;
const MANY_ROWS = 1024;
const MAX_THREADS = 512;
/** Rows whose shares of dWeight one block adds up; raised where the device would not hold all blocks at once. */
const CHUNK_ROWS = 4;
/** Of a multiprocessor, backward: what registers allow. */
const RESIDENT_THREADS = 1024;
const PACK_BYTES = 16;
/** Columns and threads a column of a block that adds up chunks. */
const SUM_BLOCK = [32, 32, 1] as const;

/** Loads kernels/cuda/rmsnorm.cu; allocates nothing per call. */
export function rmsnormOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const forward = `rmsnorm_forward_${scalar}` as const;
  const any = `rmsnorm_backward_${scalar}` as const;
  const whole = `rmsnorm_backward_whole_${scalar}` as const;
  const names = [forward, any, whole, "rmsnorm_sum_chunks"] as const;
  const kernels = cuda.load("rmsnorm", ptx, names, { ptx: dependentPtx, entries: [forward] });
  const isPacked = (tensor: Tensor) => cuda.address(tensor) % BigInt(PACK_BYTES) === 0n;
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
      const isWhole = c % width === 0 && c <= MAX_THREADS * width &&
        [dX, dOut, x, weight].every(isPacked);
      const resident = cuda.multiprocessors * Math.max(1, Math.floor(RESIDENT_THREADS / threads));
      const chunkRows = Math.max(CHUNK_ROWS, Math.ceil(n / resident));
      const chunks = Math.ceil(n / chunkRows), partial = cuda.scratch(chunks * c);
      cuda.launch(
        kernels[isWhole ? whole : any],
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
