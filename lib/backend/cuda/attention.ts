// Causal grouped-query attention on CUDA. Heads 64 and 128 wide in bf16 take tensor cores; everything else, and decoding,
// is attention_plain.ts.

import ptx from "../../../kernels/dist/attention.ptx" with { type: "text" };
import backwardPtx from "../../../kernels/dist/attention_backward.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import type { Tensor } from "../../core/tensor.ts";
import { plainAttention } from "./attention_plain.ts";
import { type CudaContext, type CudaKernel, type Extent, i32 } from "./context.ts";
import { scalarOf } from "./geometry.ts";

/** Queries or keys that a block keeps, and its threads: the constants of kernels/cuda/attention_tile.cuh. */
const TILE_ROWS = 64;
const THREADS: Extent = [128, 1, 1];
/** Fewer new positions of a sequence than this are a decoding step: its chunks of the cache fill the device better. */
const MIN_TILED_QUERIES = 16;
const TILED_WIDTHS = [64, 128] as const;
const BF16_BYTES = 2;
const F32_BYTES = 4;

/** The kernels of one head width. */
interface TiledKernels {
  readonly forward: CudaKernel;
  readonly cached: CudaKernel;
  readonly backwardKeys: CudaKernel;
  readonly backwardQueries: CudaKernel;
  /** Rows of the operand that comes in turns in the backward pass. */
  readonly backwardRows: number;
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
  const grid = (rows: number, heads: number, b: number): Extent => {
    return [Math.ceil(rows / TILE_ROWS), heads, b];
  };
  return {
    attentionForward(out, lse, qkv) {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const tiled = tiledFor(d, out, qkv);
      if (tiled === null) return plain.forward(out, lse, qkv);
      const args = [out, lse, qkv, i32(t), i32(h), i32(k)];
      cuda.launch(tiled.forward, grid(t, h, b), THREADS, forwardBytes(d), args);
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const delta = plain.delta(dOut, out, k);
      const tiled = tiledFor(d, dQkv, dOut, qkv);
      if (tiled === null) return plain.backward(dQkv, dOut, qkv, lse, delta, h);
      const args = [dQkv, dOut, qkv, lse, delta, i32(t), i32(h), i32(k)];
      const { backwardKeys, backwardQueries, backwardRows } = tiled;
      const keysBytes = keyTileBytes(TILE_ROWS, d) + 2 * queryTileBytes(backwardRows, d);
      cuda.launch(backwardKeys, grid(t, k, b), THREADS, keysBytes, args);
      const queriesBytes = queryTileBytes(TILE_ROWS, d) + 2 * keyTileBytes(backwardRows, d);
      cuda.launch(backwardQueries, grid(t, h, b), THREADS, queriesBytes, args);
    },
    attentionCached(out, qkv, keys, values, positions) {
      const [b, t, h, d] = out.shape, k = keys.shape[1], s = keys.shape[2];
      const tiled = tiledFor(d, out, qkv, keys, values);
      if (tiled === null || t < MIN_TILED_QUERIES) {
        return plain.cached(out, qkv, keys, values, positions);
      }
      const args = [out, qkv, keys, values, positions, i32(t), i32(h), i32(k), i32(s)];
      cuda.launch(tiled.cached, grid(t, h, b), THREADS, forwardBytes(d), args);
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
    forward: forward[`attention_forward_${d}`],
    cached: forward[`attention_cached_${d}`],
    backwardKeys: backward[`attention_backward_keys_${d}`],
    backwardQueries: backward[`attention_backward_queries_${d}`],
    backwardRows: d === 64 ? 64 : 32,
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
function forwardBytes(d: number): number {
  return TILE_ROWS * d * BF16_BYTES + 2 * keyTileBytes(TILE_ROWS, d);
}
