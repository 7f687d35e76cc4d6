// Which variant of the matrix product kernels computes a product: by how its operands lie, by their type, by its size and
// by the adapter. Variants are compiled at their first use.

import blocksFours from "../../../kernels/wgsl/blocks_fours.wgsl" with { type: "text" };
import blocksTexels from "../../../kernels/wgsl/blocks_texels.wgsl" with { type: "text" };
import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import linear from "../../../kernels/wgsl/linear.wgsl" with { type: "text" };
import outAligned from "../../../kernels/wgsl/out_aligned.wgsl" with { type: "text" };
import outAny from "../../../kernels/wgsl/out_any.wgsl" with { type: "text" };
import tile16 from "../../../kernels/wgsl/tile_16.wgsl" with { type: "text" };
import tile4 from "../../../kernels/wgsl/tile_4.wgsl" with { type: "text" };
import tile8 from "../../../kernels/wgsl/tile_8.wgsl" with { type: "text" };
import weightAny from "../../../kernels/wgsl/weight_any.wgsl" with { type: "text" };
import weightUnpack from "../../../kernels/wgsl/weight_unpack.wgsl" with { type: "text" };
import { byteLengthOf } from "../../core/dtype.ts";
import { elementCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { weightTypeCode } from "./elements.ts";
import { multiplyFew } from "./linear_few.ts";
import {
  addendKind,
  type Operands,
  operandsOf,
  type Product,
  readsTexels,
  tensorsOf,
} from "./linear_operands.ts";

/** How a workgroup of linear.wgsl divides its tile among threads. */
interface Tiling {
  readonly source: string;
  /** Elements of a thread, down and across. */
  readonly tall: number;
  readonly wide: number;
  readonly threadsDown: number;
  readonly threadsAcross: number;
  /** Blocks of depth in workgroup memory; 0 reads operands directly. */
  readonly depth: number;
}

/** What suits a kind of adapter. */
interface Profile {
  /** From the largest to the smallest. */
  readonly tilings: readonly Tiling[];
  /** A tiling with fewer workgroups than this leaves parts of the adapter idle. */
  readonly minTiles: number;
  /** Rows of the left operand that stay in a cache while tiles go across the right one. */
  readonly cacheBytes: number;
}

/** Tiles of 128 x 128, 64 x 64 and 32 x 32 elements, 16 deep: 16, 8 and 4 KiB of workgroup memory, 256 and 64 threads. */
const HARDWARE: Profile = {
  tilings: [
    { source: tile8, tall: 8, wide: 8, threadsDown: 16, threadsAcross: 16, depth: 4 },
    { source: tile8, tall: 8, wide: 8, threadsDown: 8, threadsAcross: 8, depth: 4 },
    { source: tile4, tall: 4, wide: 4, threadsDown: 8, threadsAcross: 8, depth: 4 },
  ],
  minTiles: 128,
  cacheBytes: Infinity,
};

/**
 * A processor loads the addresses of its 8 lanes one by one and runs barriers as coroutines: a thread's tile is as large
 * as its instruction cache allows, operands are texels, and nothing is shared. Measured with llvmpipe.
 */
const SOFTWARE: Profile = {
  tilings: [
    { source: tile16, tall: 16, wide: 16, threadsDown: 2, threadsAcross: 4, depth: 0 },
    { source: tile8, tall: 8, wide: 8, threadsDown: 1, threadsAcross: 8, depth: 0 },
    { source: tile4, tall: 4, wide: 4, threadsDown: 1, threadsAcross: 8, depth: 0 },
  ],
  minTiles: 4,
  cacheBytes: 1 << 19,
};

/** Threads of a workgroup of weight_unpack.wgsl, and elements of a thread. */
const UNPACK_GROUP = 64;
const UNPACK_COUNT = 32;

/** Enqueues one product. */
export function multiply(gpu: GpuContext, product: Product): void {
  if (!multiplyFew(gpu, product)) multiplyTiled(gpu, unpacked(gpu, product));
}

/**
 * Rows of a depth that does not lie along the rows of its operand, in one product: what a tile reads of so many stays in
 * a processor's cache for the next tile.
 */
export function maxDepth(gpu: GpuContext): number {
  return readsTexels(gpu) ? 1024 : Infinity;
}

/** Bytes of a row of a weight in the widest form in which a product reads it. */
export function weightRowBytes(gpu: GpuContext, weight: Tensor): number {
  return byteLengthOf(readsTexels(gpu) ? "f32" : weight.dtype, rowWidth(weight));
}

/** The same product with its weight as f32, where that makes texels of it. */
function unpacked(gpu: GpuContext, product: Product): Product {
  const { right, rightWidth } = product, { dtype } = right;
  if (dtype === "f32" || rightWidth % 4 !== 0 || !readsTexels(gpu)) return product;
  const count = elementCount(right.shape);
  const out = { ...gpu.scratch(count), shape: right.shape };
  const kernel = gpu.variant(`unpack ${dtype}`, () => ({
    sources: [elements, weightAny, weightUnpack],
    entryPoint: "unpack",
    constants: { DTYPE: weightTypeCode(dtype), IS_WHOLE: 1, GROUP: UNPACK_GROUP },
  }));
  gpu.run(kernel, [out, right], [count / 4], [], Math.ceil(count / UNPACK_COUNT / UNPACK_GROUP));
  return { ...product, right: out };
}

function multiplyTiled(gpu: GpuContext, product: Product): void {
  const { m, n, k, isLeftAlongK, isRightAlongK } = product;
  const operands = operandsOf(product, readsTexels(gpu) ? "both" : "none");
  const tiling = tilingOf(gpu, product, operands), isAligned = isOutAligned(product);
  const blocks = operands.rightLines === null ? blocksFours : blocksTexels;
  const along = `${Number(isLeftAlongK)}${Number(isRightAlongK)}`;
  const key = `linear ${tiling.tall} ${tiling.threadsDown} ${along} ${isAligned} ${operands.key}`;
  const kernel = gpu.variant(key, () => ({
    sources: [...operands.sources, blocks, isAligned ? outAligned : outAny, tiling.source, linear],
    entryPoint: "product",
    constants: {
      ...operands.constants,
      IS_LEFT_ALONG_K: Number(isLeftAlongK),
      IS_RIGHT_ALONG_K: Number(isRightAlongK),
      THREADS_DOWN: tiling.threadsDown,
      THREADS_ACROSS: tiling.threadsAcross,
      DEPTH: tiling.depth,
    },
  }));
  const [down, across] = tilesOf(product, tiling);
  const rowBytes = 4 * k * tiling.tall * tiling.threadsDown;
  const together = Math.max(1, Math.floor(profileOf(gpu).cacheBytes / rowBytes));
  const integers = [
    m,
    n,
    k,
    product.outWidth,
    product.outColumn,
    product.leftWidth,
    operands.leftColumn,
    product.rightWidth,
    addendKind(product),
    down,
    across,
    Math.min(down, together),
  ];
  gpu.run(kernel, tensorsOf(product, operands), integers, [], down * across);
}

function profileOf(gpu: GpuContext): Profile {
  return gpu.gpu.adapter.isSoftware ? SOFTWARE : HARDWARE;
}

/**
 * The largest tiling that the adapter's limits allow, of which no tile is twice as tall as the product and there are
 * enough tiles; otherwise the smallest.
 */
function tilingOf(gpu: GpuContext, product: Product, { maxEdge }: Operands): Tiling {
  const { tilings, minTiles } = profileOf(gpu), { limits } = gpu.gpu.adapter;
  const suits = (one: Tiling) => {
    const [down, across] = tilesOf(product, one);
    const isAllowed =
      one.threadsDown * one.threadsAcross <= limits.maxComputeInvocationsPerWorkgroup &&
      workgroupBytes(one) <= limits.maxComputeWorkgroupStorageSize;
    const isTooTall = one.tall * one.threadsDown >= 2 * product.m;
    return isAllowed && one.tall <= maxEdge && !isTooTall && down * across >= minTiles;
  };
  return tilings.find(suits) ?? tilings[tilings.length - 1];
}

/** Workgroup memory of the two parts of a tile: depths come in blocks of four. */
function workgroupBytes({ tall, wide, threadsDown, threadsAcross, depth }: Tiling): number {
  return 4 * 4 * depth * (tall * threadsDown + wide * threadsAcross);
}

function tilesOf({ m, n }: Product, tiling: Tiling): readonly [down: number, across: number] {
  const { tall, wide, threadsDown, threadsAcross } = tiling;
  return [Math.ceil(m / (tall * threadsDown)), Math.ceil(n / (wide * threadsAcross))];
}

function isOutAligned({ out, addend, n, outWidth, outColumn }: Product): boolean {
  const isAddendAligned = addend === null || addend === "out" || addend.byteOffset % 16 === 0;
  return (n | outWidth | outColumn) % 4 === 0 && out.byteOffset % 16 === 0 && isAddendAligned;
}
