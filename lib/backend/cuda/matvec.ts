// Products of few rows with a weight of any type on CUDA, bound by reading the weight: what decoding needs.

import ptx from "../../../kernels/dist/linear.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/linear_90.ptx" with { type: "text" };
import { byteLengthOf, type DType, QUANT_BLOCK } from "../../core/dtype.ts";
import { UnsupportedError } from "../../core/errors.ts";
import { elementCount, rowCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import { type CudaContext, type CudaKernel, type Extent, i32, type KernelArg } from "./context.ts";
import { scalarOf } from "./geometry.ts";

const WARP = 32;
/** A warp an output, four a block. */
const BLOCK: Extent = [WARP, 4, 1];
/** Rows that a kernel multiplies at once; fewer rows leave some of it idle. */
const ROWS = [1, 4, 8] as const;
const PLAIN = ["f32", "bf16", "f16"] as const;
const BLOCKED = ["q8_0", "q4_0"] as const;

/** More rows than this are cuBLASLt's. */
export const MAX_MATVEC_ROWS = 8;

/**
 * Loads kernels/cuda/linear.cu.
 * @returns the product: columns `column` … of `out`, `width` wide, become x · weightᵀ + addend, for x of at most
 * {@linkcode MAX_MATVEC_ROWS} rows. `addend` has the shape of `out`, and may be it.
 */
export function matvec(cuda: CudaContext) {
  const scalar = scalarOf(cuda), multiplyTiles = scalar === "bf16" ? tiled(cuda) : null;
  const weights = multiplyTiles === null ? [...PLAIN, ...BLOCKED] : PLAIN;
  const names = weights.flatMap((weight) =>
    ROWS.map((rows) => `matvec_${weight}_${scalar}_${rows}` as const)
  );
  const kernels = cuda.load("linear", ptx, names, { ptx: dependentPtx, entries: names });
  const kernelFor = (dtype: DType, n: number): CudaKernel => {
    const weight = weights.find((one) => one === dtype), rows = ROWS.find((most) => n <= most);
    if (weight === undefined || rows === undefined) {
      throw new UnsupportedError(`Cannot multiply ${n} rows with a weight of ${dtype} on CUDA`);
    }
    return kernels[`matvec_${weight}_${scalar}_${rows}`];
  };
  return (
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    addend: Tensor | null,
    column: number,
    width: number,
  ): void => {
    const i = rowWidth(weight), o = rowCount(weight), n = elementCount(x.shape) / i;
    const sizes = [i32(n), i32(o), i32(i), i32(column), i32(width)];
    const args = [out, x, weight, addend, ...sizes];
    const tile = multiplyTiles === null ? undefined : TILED.find((one) => one === weight.dtype);
    const isTiled = tile !== undefined && (tile !== "bf16" || n > 1 && i % QUANT_BLOCK === 0);
    if (multiplyTiles !== null && isTiled) return multiplyTiles(tile, n, o, i, args);
    const grid: Extent = [Math.ceil(o / BLOCK[1]), 1, 1];
    cuda.launch(kernelFor(weight.dtype, n), grid, BLOCK, 0, args);
  };
}

/** Weights that tensor cores multiply, bf16 only several rows at a time. */
const TILED = ["bf16", ...BLOCKED] as const;
const TILE_KERNELS = [
  "matvec_tiles_bf16_8",
  ...BLOCKED.flatMap((weight) =>
    ([1, 8] as const).map((n) => `matvec_tiles_${weight}_${n}` as const)
  ),
] as const;
/** As in kernels/cuda/linear_tiles.cuh: rows of a tile, elements of a span, warps of a block at most. */
const TILE_ROWS = 16;
const SPAN = 256;
const MOST_WARPS = 16;
/** Warps of a multiprocessor that keep its memory busy. */
const BUSY_WARPS = 16;

/** Shared memory of a warp: a span of a tile of blocks, and of x with padding. */
function stageBytes(weight: typeof TILED[number], columns: number): number {
  if (weight === "bf16") return columns * byteLengthOf("bf16", SPAN + 32);
  return TILE_ROWS * byteLengthOf(weight, SPAN) + columns * byteLengthOf("bf16", SPAN + 8);
}

/** Products of bf16 on tensor cores: a block of warps for 16 rows of the weight. */
function tiled(cuda: CudaContext) {
  const dependents = { ptx: dependentPtx, entries: TILE_KERNELS };
  const kernels = cuda.load("linear", ptx, TILE_KERNELS, dependents);
  return (
    weight: typeof TILED[number],
    n: number,
    o: number,
    i: number,
    args: readonly KernelArg[],
  ): void => {
    const columns = weight !== "bf16" && n === 1 ? 1 : 8, bytes = stageBytes(weight, columns);
    const tiles = Math.ceil(o / TILE_ROWS), spans = Math.ceil(i / SPAN);
    const sums = 4 * MOST_WARPS * TILE_ROWS * (columns + 1);
    const most = Math.min(MOST_WARPS, Math.floor((cuda.maxSharedBytes - sums) / bytes));
    const filling = Math.floor(tiles * spans / (BUSY_WARPS * cuda.multiprocessors));
    const rounds = Math.max(Math.ceil(spans / most), Math.min(filling, Math.ceil(spans / 4)));
    const warps = Math.ceil(spans / Math.max(1, rounds));
    const kernel = weight === "bf16"
      ? kernels.matvec_tiles_bf16_8
      : kernels[`matvec_tiles_${weight}_${n === 1 ? 1 : 8}`];
    cuda.launch(kernel, [tiles, 1, 1], [WARP, warps, 1], warps * bytes, args);
  };
}
