// Attention with the instructions of compute capability 9.0 alone: kernels that take the place of attention.ts's. Nobody has
// timed them beside those yet (`deno task bench:gpu --only attention` does), so TINYLLAMA_CUDA_HOPPER=1 has to ask for them.

import backwardPtx from "../../../kernels/dist/attention_backward_hopper.ptx" with { type: "text" };
import ptx from "../../../kernels/dist/attention_hopper.ptx" with { type: "text" };
import { DeviceError } from "../../core/errors.ts";
import type { CudaContext, CudaKernel, Extent } from "./context.ts";

const VARIABLE = "TINYLLAMA_CUDA_HOPPER";
/** The constants of kernels/cuda/panels_hopper.cuh: threads of a block, and rows of queries or keys that it keeps. */
const THREADS: Extent = [256, 1, 1];
const ROWS = 128;
/** Keys that come in turns, forward. */
const KEYS = { 64: 64, 128: 128 } as const;
/** Of attention_backward_hopper.cu: rows that come in turns, places for them, and the one head width. */
const TURN = 64, PLACES = 3, BACKWARD_WIDTH = 64;
const BF16_BYTES = 2;
const F32_BYTES = 4;

/** A kernel that has a block for a tile of queries or keys, and how it is launched. */
export interface TileKernel {
  readonly kernel: CudaKernel;
  /** Queries or keys of a block. */
  readonly rows: number;
  readonly threads: Extent;
  /** Dynamic shared memory. */
  readonly sharedBytes: number;
}

/** What there is for a head width, with the arguments that attention.ts's kernels of these names have. */
export interface HopperKernels {
  readonly forward: TileKernel;
  readonly backwardKeys?: TileKernel;
  readonly backwardQueries?: TileKernel;
}

/**
 * The kernels by head width; none unless the variable asks for them.
 * @throws {DeviceError} when it does on a card of another compute capability.
 */
export function hopperKernels(cuda: CudaContext): ReadonlyMap<number, HopperKernels> {
  if (Deno.env.get(VARIABLE) !== "1" || cuda.precision.compute !== "bf16") return new Map();
  const capability = cuda.capability.join(".");
  if (capability !== "9.0") {
    throw new DeviceError(
      `Cannot use cuda: ${VARIABLE}=1 asks for kernels of compute capability 9.0, and the card has ${capability}`,
    );
  }
  const { attention_hopper_64: narrow, attention_hopper_128: wide } = cuda.load(
    "attention_hopper",
    ptx,
    ["attention_hopper_64", "attention_hopper_128"],
  );
  const { attention_backward_keys_hopper_64: keys, attention_backward_queries_hopper_64: queries } =
    cuda.load("attention_backward_hopper", backwardPtx, [
      "attention_backward_keys_hopper_64",
      "attention_backward_queries_hopper_64",
    ]);
  const turnBytes = pairBytes(TURN), statisticsBytes = 2 * TURN * F32_BYTES;
  const backwardKeys = tile(keys, pairBytes(ROWS) + PLACES * (turnBytes + statisticsBytes));
  const backwardQueries = tile(queries, pairBytes(ROWS) + PLACES * turnBytes);
  return new Map<number, HopperKernels>([
    [64, { forward: tile(narrow, forwardBytes(64)), backwardKeys, backwardQueries }],
    [128, { forward: tile(wide, forwardBytes(128)) }],
  ]);
}

function tile(kernel: CudaKernel, sharedBytes: number): TileKernel {
  return { kernel, rows: ROWS, threads: THREADS, sharedBytes };
}

/** A tile of queries, two of keys and two of values. */
function forwardBytes(d: keyof typeof KEYS): number {
  return (ROWS + 4 * KEYS[d]) * d * BF16_BYTES;
}

/** Two tiles, backward. */
function pairBytes(rows: number): number {
  return 2 * rows * BACKWARD_WIDTH * BF16_BYTES;
}
