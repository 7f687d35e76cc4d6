// Attention's forward pass with the instructions of compute capability 9.0 alone. Nobody has timed these kernels beside
// attention.ts's yet (`deno task bench:gpu --only attention` does), so they are taken only where TINYLLAMA_CUDA_HOPPER=1 asks.

import ptx from "../../../kernels/dist/attention_hopper.ptx" with { type: "text" };
import { DeviceError } from "../../core/errors.ts";
import type { CudaContext, CudaKernel, Extent } from "./context.ts";

const VARIABLE = "TINYLLAMA_CUDA_HOPPER";
const WIDTHS = [64, 128] as const;
/** Keys of a tile by head width, and queries and threads of a block: the constants of kernels/cuda/attention_hopper.cu. */
const KEYS = { 64: 64, 128: 128 } as const;
const QUERIES = 128;
const THREADS: Extent = [256, 1, 1];
const BF16_BYTES = 2;

/** A forward kernel and how it is launched; its arguments are those of attention.ts's. */
export interface HopperForward {
  readonly kernel: CudaKernel;
  readonly queries: number;
  readonly threads: Extent;
  /** Dynamic shared memory: a tile of queries, two of keys, two of values. */
  readonly sharedBytes: number;
}

/**
 * The kernels by head width; none unless the variable asks for them.
 * @throws {DeviceError} when it does on a card of another compute capability.
 */
export function hopperForward(cuda: CudaContext): ReadonlyMap<number, HopperForward> {
  if (Deno.env.get(VARIABLE) !== "1" || cuda.precision.compute !== "bf16") return new Map();
  const capability = cuda.capability.join(".");
  if (capability !== "9.0") {
    throw new DeviceError(
      `Cannot use cuda: ${VARIABLE}=1 asks for kernels of compute capability 9.0, and the card has ${capability}`,
    );
  }
  const names = WIDTHS.map((d) => `attention_hopper_${d}` as const);
  const kernels = cuda.load("attention_hopper", ptx, names);
  return new Map(WIDTHS.map((d) => [d, {
    kernel: kernels[`attention_hopper_${d}`],
    queries: QUERIES,
    threads: THREADS,
    sharedBytes: (QUERIES + 4 * KEYS[d]) * d * BF16_BYTES,
  }]));
}
