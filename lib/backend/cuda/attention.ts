// Causal grouped-query attention on CUDA. Heads 64 and 128 wide in bf16 take tensor cores; everything else, and decoding,
// is attention_plain.ts.

import ptx from "../../../kernels/dist/attention.ptx" with { type: "text" };
import backwardPtx from "../../../kernels/dist/attention_backward.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import type { Tensor } from "../../core/tensor.ts";
import { plainAttention } from "./attention_plain.ts";
import { type CudaContext, type CudaKernel, type Extent, i32 } from "./context.ts";
import { scalarOf } from "./geometry.ts";

/** Threads of a block, as in kernels/cuda/attention_tile.cuh. */
const THREADS: Extent = [128, 1, 1];
/** Queries that a block keeps, forward and backward. */
const QUERIES = 128;
/** Fewer new positions of a sequence than this are a decoding step: its chunks of the cache fill the device better. */
const MIN_TILED_QUERIES = 16;
const TILED_WIDTHS = [64, 128] as const;
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
}

const CUTS = {
  64: { turnKeys: 64, keptKeys: 128, backwardTurn: 64 },
  128: { turnKeys: 32, keptKeys: 64, backwardTurn: 32 },
} as const satisfies Record<typeof TILED_WIDTHS[number], Cut>;

/** The kernels of one head width. */
interface TiledKernels {
  readonly cut: Cut;
  readonly forward: CudaKernel;
  readonly cached: CudaKernel;
  readonly backwardKeys: CudaKernel;
  readonly backwardQueries: CudaKernel;
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
  const grid = (heads: number, b: number, t: number, rows: number): Extent => {
    return [heads, b, Math.ceil(t / rows)];
  };
  return {
    attentionForward(out, lse, qkv) {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const tiled = tiledFor(d, out, qkv);
      if (tiled === null) return plain.forward(out, lse, qkv);
      const args = [out, lse, qkv, i32(t), i32(h), i32(k)];
      const bytes = forwardBytes(tiled.cut, d);
      cuda.launch(tiled.forward, grid(h, b, t, QUERIES), THREADS, bytes, args);
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const delta = plain.delta(dOut, out, k);
      const tiled = tiledFor(d, dQkv, dOut, qkv);
      if (tiled === null) return plain.backward(dQkv, dOut, qkv, lse, delta, h);
      const args = [dQkv, dOut, qkv, lse, delta, i32(t), i32(h), i32(k)];
      const { backwardKeys, backwardQueries, cut: { keptKeys, backwardTurn } } = tiled;
      const keysBytes = keyTileBytes(keptKeys, d) + 2 * queryTileBytes(backwardTurn, d);
      cuda.launch(backwardKeys, grid(k, b, t, keptKeys), THREADS, keysBytes, args);
      const queriesBytes = queryTileBytes(QUERIES, d) + 2 * keyTileBytes(backwardTurn, d);
      cuda.launch(backwardQueries, grid(h, b, t, QUERIES), THREADS, queriesBytes, args);
    },
    attentionCached(out, qkv, keys, values, positions) {
      const [b, t, h, d] = out.shape, k = keys.shape[1], s = keys.shape[2];
      const tiled = tiledFor(d, out, qkv, keys, values);
      if (tiled === null || t < MIN_TILED_QUERIES) {
        return plain.cached(out, qkv, keys, values, positions);
      }
      const args = [out, qkv, keys, values, positions, i32(t), i32(h), i32(k), i32(s)];
      const bytes = forwardBytes(tiled.cut, d);
      cuda.launch(tiled.cached, grid(h, b, t, QUERIES), THREADS, bytes, args);
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
  const backward = cuda.load("attention_backward", backwardPtx, backwardNames);
  return new Map(TILED_WIDTHS.map((d) => [d, {
    cut: CUTS[d],
    forward: forward[`attention_forward_${d}`],
    cached: forward[`attention_cached_${d}`],
    backwardKeys: backward[`attention_backward_keys_${d}`],
    backwardQueries: backward[`attention_backward_queries_${d}`],
  }]));
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
