// How work is spread over blocks and threads, for kernels that are not bound to tiles: a row to each warp or block, or one
// pack of 16 bytes to each thread. Mirrors kernels/cuda/device.cuh.

import { UnsupportedError } from "../../core/errors.ts";
import type { CudaContext, Extent } from "./context.ts";

const WARP = 32;
const MAX_THREADS = 1024;
/** Rows a block takes where a warp is enough for one. */
const NARROW_ROWS = 4;
const PACK_BYTES = 16;
/** Threads of a block whose threads have nothing to do with each other. */
export const FLAT_THREADS = 256;

/** The element type of activations, which names the entry points. */
export function scalarOf(cuda: CudaContext): "bf16" | "f32" {
  const { compute } = cuda.precision;
  if (compute === "bf16" || compute === "f32") return compute;
  throw new UnsupportedError(`Cannot compute in ${compute} on CUDA: bf16 and f32 are possible`);
}

/** Elements of an activation that one thread moves at a time. */
export function packWidth(scalar: "bf16" | "f32"): number {
  return PACK_BYTES / (scalar === "bf16" ? 2 : 4);
}

/** Threads for a row of `items`, at most one an item: whole warps. */
export function rowThreads(items: number): number {
  return Math.min(MAX_THREADS, Math.max(1, Math.ceil(items / WARP)) * WARP);
}

/** A warp or a block for each of `rows` rows of `items`; a block holds several rows that a warp is enough for. */
export function rowBlocks(rows: number, items: number): { grid: Extent; block: Extent } {
  const threads = rowThreads(items), together = threads === WARP ? NARROW_ROWS : 1;
  return { grid: [Math.ceil(rows / together), 1, 1], block: [threads, together, 1] };
}

/** The same for rows whose threads have nothing to do with each other: blocks of about FLAT_THREADS. */
export function independentRows(rows: number, items: number): { grid: Extent; block: Extent } {
  const threads = rowThreads(items), together = Math.max(1, Math.floor(FLAT_THREADS / threads));
  return { grid: [Math.ceil(rows / together), 1, 1], block: [threads, together, 1] };
}

/** A thread for each of `items`. */
export function flat(items: number): { grid: Extent; block: Extent } {
  return { grid: [Math.ceil(items / FLAT_THREADS), 1, 1], block: [FLAT_THREADS, 1, 1] };
}
