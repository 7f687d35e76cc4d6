// Causal grouped-query attention on CUDA. Heads 64 and 128 wide in bf16 take tensor cores, those of attention_hopper.ts where
// asked for; everything else, and decoding, is attention_plain.ts.

import ptx from "../../../kernels/dist/attention.ptx" with { type: "text" };
import backwardPtx from "../../../kernels/dist/attention_backward.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import type { Tensor } from "../../core/tensor.ts";
import { hopperKernels, type TileKernel } from "./attention_hopper.ts";
import { part, plainAttention } from "./attention_plain.ts";
import { type CudaContext, type CudaKernel, type Extent, i32, type KernelArg } from "./context.ts";
import { SCRATCH } from "./footprint.ts";
import { flat, packWidth, scalarOf } from "./geometry.ts";

/** Threads of a block, as in kernels/cuda/attention_tile.cuh. */
const THREADS: Extent = [128, 1, 1];
/** Queries that a block keeps, forward and backward. */
const QUERIES = 128;
/** Fewer new positions of a sequence than this are a decoding step: its chunks of the cache fill the device better. */
const MIN_TILED_QUERIES = 16;
const TILED_WIDTHS = [64, 128] as const;
/**
 * Blocks for a multiprocessor, of which two are there at a time: the longest takes twice as long as the mean of all, so
 * that fewer would not fill the device.
 */
const MIN_BLOCKS = 3;
const BF16_BYTES = 2;
const F32_BYTES = 4;

/** Rows that kernels of one head width have at a time: the constants of attention.cu and attention_backward.cu. */
interface Cut {
  /** Keys that come in turns, forward. */
  readonly turnKeys: number;
  /** Keys that a block keeps, backward. */
  readonly keptKeys: number;
  /** Rows of the operand that comes in turns, backward. */
  readonly backwardTurn: number;
  /** Whether what a block keeps, backward, goes to registers. */
  readonly isKept: boolean;
}

const CUTS = {
  64: { turnKeys: 64, keptKeys: 128, backwardTurn: 64, isKept: true },
  128: { turnKeys: 32, keptKeys: 64, backwardTurn: 32, isKept: false },
} as const satisfies Record<typeof TILED_WIDTHS[number], Cut>;

/** The kernels of one head width. */
interface TiledKernels {
  readonly forward: TileKernel;
  readonly cached: TileKernel;
  readonly backwardKeys: TileKernel;
  readonly backwardQueries: TileKernel;
  readonly backwardSum: CudaKernel;
}

/** Loads the kernels of attention; allocates nothing per call. */
export function attentionOps(cuda: CudaContext) {
  const plain = plainAttention(cuda);
  const tiledKernels = scalarOf(cuda) === "bf16"
    ? loadTiled(cuda)
    : new Map<number, TiledKernels>();
  /** Null when these tensors cannot be read in whole packs of 16 bytes, or are of a width without tiles. */
  const tiledFor = (d: number, ...tensors: readonly Tensor[]) =>
    tensors.every(({ byteOffset }) => byteOffset % 16 === 0) ? tiledKernels.get(d) ?? null : null;
  /** Tiles last, so that the kernels can begin with those that take longest. */
  const launch = (
    { kernel, rows, threads, sharedBytes }: TileKernel,
    heads: number,
    [b, t]: readonly [b: number, t: number],
    args: readonly KernelArg[],
  ) => cuda.launch(kernel, [heads, b, Math.ceil(t / rows)], threads, sharedBytes, args);
  return {
    attentionForward(out, lse, qkv) {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const tiled = tiledFor(d, out, qkv);
      if (tiled === null) return plain.forward(out, lse, qkv);
      launch(tiled.forward, h, [b, t], [out, lse, qkv, i32(t), i32(h), i32(k)]);
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const tiled = tiledFor(d, dQkv, dOut, qkv);
      const splits = tiled === null ? 1 : splitsOf(cuda, { b, t, h, k, d }, tiled.backwardKeys);
      const partCount = splits > 1 ? splits * b * t * 2 * k * d : 0, deltaCount = b * h * t;
      const scratch = cuda.scratch(partCount + deltaCount);
      const parts = splits > 1 ? part(scratch, "parts", 0, partCount) : null;
      const delta = part(scratch, "delta", partCount, deltaCount);
      plain.delta(delta, dOut, out, k);
      if (tiled === null) return plain.backward(dQkv, [dOut, qkv, lse, delta], h);
      const inputs = [dOut, qkv, lse, delta, i32(t), i32(h), i32(k)];
      const keys = [dQkv, parts, ...inputs, i32(splits), i32(h / k / splits)];
      launch(tiled.backwardKeys, splits * k, [b, t], keys);
      if (parts !== null) {
        const sum = flat(b * t * 2 * k * d / packWidth("bf16"));
        const sizes = [i32(splits), i32(b * t), i32(2 * k * d), i32((h + 2 * k) * d)];
        cuda.launch(tiled.backwardSum, sum.grid, sum.block, 0, [dQkv, parts, ...sizes]);
      }
      launch(tiled.backwardQueries, h, [b, t], [dQkv, ...inputs]);
    },
    attentionCached(out, qkv, keys, values, positions) {
      const [b, t, h, d] = out.shape, k = keys.shape[1], s = keys.shape[2];
      const tiled = tiledFor(d, out, qkv, keys, values);
      if (tiled === null || t < MIN_TILED_QUERIES) {
        return plain.cached(out, qkv, keys, values, positions);
      }
      const args = [out, qkv, keys, values, positions, i32(t), i32(h), i32(k), i32(s)];
      launch(tiled.cached, h, [b, t], args);
    },
  } satisfies Partial<Ops>;
}

function loadTiled(cuda: CudaContext): ReadonlyMap<number, TiledKernels> {
  const names = TILED_WIDTHS.flatMap((d) =>
    [`attention_forward_${d}`, `attention_cached_${d}`] as const
  );
  const backwardNames = TILED_WIDTHS.flatMap((d) =>
    [`attention_backward_keys_${d}`, `attention_backward_queries_${d}`] as const
  );
  const forward = cuda.load("attention", ptx, names);
  const sum = "attention_backward_sum";
  const backward = cuda.load("attention_backward", backwardPtx, [...backwardNames, sum]);
  const hopper = hopperKernels(cuda);
  return new Map(TILED_WIDTHS.map((d) => {
    const cut = CUTS[d], bytes = forwardBytes(cut, d);
    return [d, {
      forward: tile(forward[`attention_forward_${d}`], QUERIES, bytes),
      cached: tile(forward[`attention_cached_${d}`], QUERIES, bytes),
      backwardKeys: tile(
        backward[`attention_backward_keys_${d}`],
        cut.keptKeys,
        backwardBytes(cut, queryTileBytes(cut.backwardTurn, d), keyTileBytes(cut.keptKeys, d)),
      ),
      backwardQueries: tile(
        backward[`attention_backward_queries_${d}`],
        QUERIES,
        backwardBytes(cut, keyTileBytes(cut.backwardTurn, d), queryTileBytes(QUERIES, d)),
      ),
      backwardSum: backward[sum],
      ...hopper.get(d),
    }];
  }));
}

function tile(kernel: CudaKernel, rows: number, sharedBytes: number): TileKernel {
  return { kernel, rows, threads: THREADS, sharedBytes };
}

/** Shared memory of a tile of keys and one of values. */
function keyTileBytes(rows: number, d: number): number {
  return 2 * rows * d * BF16_BYTES;
}

/** Shared memory of a tile of queries, one of their gradients, and two statistics a query. */
function queryTileBytes(rows: number, d: number): number {
  return 2 * rows * d * BF16_BYTES + 2 * rows * F32_BYTES;
}

/** One tile of queries, two of keys and values. */
function forwardBytes({ turnKeys }: Cut, d: number): number {
  return QUERIES * d * BF16_BYTES + 2 * keyTileBytes(turnKeys, d);
}

/** Two places for what comes in turns, then what is kept, which may lie in the second one. */
function backwardBytes({ isKept }: Cut, turnBytes: number, keptBytes: number): number {
  return turnBytes + (isKept ? Math.max(turnBytes, keptBytes) : turnBytes + keptBytes);
}

/** Sizes of an attention. */
type Sizes = Readonly<Record<"b" | "t" | "h" | "k" | "d", number>>;

/**
 * Parts that the heads of a group are cut into for the gradients of keys, a block each: doubled until the device is full,
 * as long as parts are equal and their sums fit in the scratch memory that is there.
 */
function splitsOf(cuda: CudaContext, { b, t, h, k, d }: Sizes, { rows }: TileKernel): number {
  const blocks = b * k * Math.ceil(t / rows), wanted = MIN_BLOCKS * cuda.multiprocessors;
  const most = (SCRATCH.byteLength / F32_BYTES - b * h * t) / (b * t * 2 * k * d);
  let splits = 1;
  while (splits * blocks < wanted && h / k % (2 * splits) === 0 && 2 * splits <= most) splits *= 2;
  return splits;
}
