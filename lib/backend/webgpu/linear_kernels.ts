// Which variant of the matrix product kernels computes a product: by how its operands lie, by their type, by its size and
// by the adapter. Variants are compiled at their first use.

import blocksFours from "../../../kernels/wgsl/blocks_fours.wgsl" with { type: "text" };
import blocksTexels from "../../../kernels/wgsl/blocks_texels.wgsl" with { type: "text" };
import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import laneSum from "../../../kernels/wgsl/lane_sum.wgsl" with { type: "text" };
import laneSumSubgroups from "../../../kernels/wgsl/lane_sum_subgroups.wgsl" with { type: "text" };
import linear from "../../../kernels/wgsl/linear.wgsl" with { type: "text" };
import matvec from "../../../kernels/wgsl/matvec.wgsl" with { type: "text" };
import matvecPacked from "../../../kernels/wgsl/matvec_packed.wgsl" with { type: "text" };
import matvecQuantized from "../../../kernels/wgsl/matvec_quantized.wgsl" with { type: "text" };
import outAligned from "../../../kernels/wgsl/out_aligned.wgsl" with { type: "text" };
import outAny from "../../../kernels/wgsl/out_any.wgsl" with { type: "text" };
import rowsAligned from "../../../kernels/wgsl/rows_aligned.wgsl" with { type: "text" };
import rowsTexels from "../../../kernels/wgsl/rows_texels.wgsl" with { type: "text" };
import rowsAny from "../../../kernels/wgsl/rows_any.wgsl" with { type: "text" };
import tile16 from "../../../kernels/wgsl/tile_16.wgsl" with { type: "text" };
import tile4 from "../../../kernels/wgsl/tile_4.wgsl" with { type: "text" };
import tile8 from "../../../kernels/wgsl/tile_8.wgsl" with { type: "text" };
import weightAligned from "../../../kernels/wgsl/weight_aligned.wgsl" with { type: "text" };
import weightAny from "../../../kernels/wgsl/weight_any.wgsl" with { type: "text" };
import weightPack from "../../../kernels/wgsl/weight_pack.wgsl" with { type: "text" };
import weightUnpack from "../../../kernels/wgsl/weight_unpack.wgsl" with { type: "text" };
import { byteLengthOf, isQuantized, QUANT_BLOCK } from "../../core/dtype.ts";
import { elementCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import type { GpuContext, Operand, PackedOperand } from "./context.ts";
import { weightTypeCode } from "./elements.ts";
import { FLAT_LINES, matrixLines, type TexelLines, TEXELS_PER_ROW } from "./texels.ts";

/** out (m, n) = left (m, k) · right (k, n) + addend; all tensors fit into a binding. */
export interface Product {
  readonly out: Tensor;
  readonly left: Tensor;
  /** The weight, or what takes its place in a gradient. */
  readonly right: Tensor;
  /** `out` stands for the output's own elements. */
  readonly addend: Tensor | "out" | null;
  /** Whether left is stored (m, k) rather than (k, m), and right (n, k) rather than (k, n). */
  readonly isLeftAlongK: boolean;
  readonly isRightAlongK: boolean;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Elements from row to row of out and addend, and the column at which this product starts. */
  readonly outWidth: number;
  readonly outColumn: number;
  readonly leftWidth: number;
  readonly leftColumn: number;
  readonly rightWidth: number;
}

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
  /** Whether 16 bytes at once are cheaper than words: operands are texels, and products of few rows pack weights. */
  readonly usesTexels: boolean;
  /** Threads that share rows of a weight in matvec.wgsl, and threads of its workgroups. */
  readonly lanes: number;
  readonly group: number;
}

/** Tiles of 64 x 64 and 32 x 32 elements, 16 deep: 8 and 4 KiB of workgroup memory, 64 threads. */
const HARDWARE: Profile = {
  tilings: [
    { source: tile8, tall: 8, wide: 8, threadsDown: 8, threadsAcross: 8, depth: 4 },
    { source: tile4, tall: 4, wide: 4, threadsDown: 8, threadsAcross: 8, depth: 4 },
  ],
  minTiles: 128,
  cacheBytes: Infinity,
  usesTexels: false,
  lanes: 32,
  group: 128,
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
  usesTexels: true,
  lanes: 1,
  group: 8,
};

/** Rows up to which matvec.wgsl is the faster kernel: its MAX_ROWS. */
const MAX_FEW_ROWS = 8;

/** The textures of the two operands. */
const LEFT_PLACE = 0;
const RIGHT_PLACE = 1;

/** Threads of a workgroup of weight_unpack.wgsl, and elements of a thread. */
const UNPACK_GROUP = 64;
const UNPACK_COUNT = 32;

/** LANES_TOGETHER of matvec_packed.wgsl, and rows of the weight that a lane owns there. */
const PACKED_LANES = 8;
const PACKED_ROWS = 16;

/** Enqueues one product. */
export function multiply(gpu: GpuContext, product: Product): void {
  const { usesTexels } = profileOf(gpu), { m, right } = product;
  const isWithWeight = product.isLeftAlongK && product.isRightAlongK;
  const isFew = isWithWeight && m <= MAX_FEW_ROWS;
  const weight = isFew && usesTexels ? packed(gpu, right, product.k) : null;
  if (weight !== null) multiplyPacked(gpu, product, weight);
  else if (isFew && (m === 1 || !usesTexels)) multiplyFew(gpu, product);
  else multiplyTiled(gpu, usesTexels ? unpacked(gpu, product) : product);
}

/**
 * Rows of a depth that does not lie along the rows of its operand, in one product: what a tile reads of so many stays in
 * a processor's cache for the next tile.
 */
export function maxDepth(gpu: GpuContext): number {
  return profileOf(gpu).usesTexels ? 1024 : Infinity;
}

/** Bytes of a row of a weight in the widest form in which a product reads it. */
export function weightRowBytes(gpu: GpuContext, weight: Tensor): number {
  return byteLengthOf(profileOf(gpu).usesTexels ? "f32" : weight.dtype, rowWidth(weight));
}

/** The same product with its weight as f32, where that makes texels of it. */
function unpacked(gpu: GpuContext, product: Product): Product {
  const { right, rightWidth } = product, { dtype } = right;
  if (dtype === "f32" || rightWidth % 4 !== 0) return product;
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
  const { tilings, minTiles, cacheBytes, usesTexels } = profileOf(gpu);
  const operands = operandsOf(product, usesTexels ? "both" : "none"),
    isAligned = isOutAligned(product);
  const tiling = tilings.find((one) => suits(one, product, operands, minTiles)) ??
    tilings[tilings.length - 1];
  const blocks = operands.rightLines === null ? blocksFours : blocksTexels;
  const along = `${Number(isLeftAlongK)}${Number(isRightAlongK)}`;
  const key = `linear ${tiling.tall} ${along} ${isAligned} ${operands.key}`;
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
    Math.max(
      1,
      Math.min(down, Math.floor(cacheBytes / (4 * k * tiling.tall * tiling.threadsDown))),
    ),
  ];
  gpu.run(kernel, tensorsOf(product, operands), integers, [], down * across);
}

/** Enqueues the packing of a weight, which runs again only once that was written; null where it has no packed form. */
function packed(gpu: GpuContext, weight: Tensor, k: number): PackedOperand | null {
  const { dtype } = weight;
  if (dtype === "f32" || dtype === "i32" || k % QUANT_BLOCK !== 0) return null;
  const n = elementCount(weight.shape) / k;
  const width = PACKED_LANES * packedTexels(dtype, k / QUANT_BLOCK);
  const height = Math.ceil(n / PACKED_LANES);
  const texture = gpu.memory.pack(weight, width, height);
  if (texture === null) return null;
  const kernel = gpu.variant(`pack ${dtype}`, () => ({
    sources: [elements, weightPack],
    entryPoint: "pack",
    constants: { DTYPE: weightTypeCode(dtype), GROUP: UNPACK_GROUP },
  }));
  const operand = { packed: texture, weight };
  gpu.run(kernel, [operand, weight], [n, k, width], [], Math.ceil(width * height / UNPACK_GROUP));
  return operand;
}

/** Texels of a packed row of so many blocks: blocks of numbers, and for four quantized ones a texel of scales. */
function packedTexels(dtype: Tensor["dtype"], blocks: number): number {
  switch (dtype) {
    case "q8_0":
      return 2 * blocks + Math.ceil(blocks / 4);
    case "q4_0":
      return blocks + Math.ceil(blocks / 4);
    default:
      return 4 * blocks;
  }
}

function multiplyPacked(gpu: GpuContext, product: Product, weight: PackedOperand): void {
  const { m, n, k, outWidth, outColumn } = product;
  const operands = operandsOf(product, "left"), kind = addendKind(product);
  const kernel = gpu.variant(`packed ${m} ${kind} ${operands.key}`, () => ({
    sources: [
      ...operands.sources,
      laneSum,
      matvec,
      matvecPacked,
    ],
    entryPoint: "product_packed",
    constants: {
      ...operands.constants,
      GROUP: PACKED_LANES,
      ROWS: m,
      ADDEND_KIND: kind,
    },
  }));
  const [out, , left, addend] = tensorsOf(product, operands);
  const groups = Math.ceil(n / PACKED_LANES / PACKED_ROWS);
  gpu.run(kernel, [out, weight, left, addend], [n, k, outWidth, outColumn], [], groups);
}

function multiplyFew(gpu: GpuContext, product: Product): void {
  const { m, n, k, right, outWidth, outColumn } = product;
  const { lanes, group, usesTexels } = profileOf(gpu);
  const operands = operandsOf(product, usesTexels ? "left" : "none");
  const isBlocks = isQuantized(right.dtype), kind = addendKind(product);
  const kernel = gpu.variant(`matvec ${m} ${kind} ${operands.key}`, () => {
    const sum = laneSums(gpu);
    return {
      sources: [...operands.sources, sum.source, matvec, ...(isBlocks ? [matvecQuantized] : [])],
      entryPoint: isBlocks ? "product_quantized" : "product",
      constants: {
        ...operands.constants,
        ...sum.constants,
        LANES: lanes,
        GROUP: group,
        ROWS: m,
        ADDEND_KIND: kind,
      },
    };
  });
  const groups = Math.ceil(n / 4 / (group / lanes));
  gpu.run(kernel, tensorsOf(product, operands), [n, k, outWidth, outColumn], [], groups);
}

function profileOf(gpu: GpuContext): Profile {
  return gpu.gpu.adapter.isSoftware ? SOFTWARE : HARDWARE;
}

/** How the lanes of matvec.wgsl are added up. */
function laneSums(gpu: GpuContext): KernelSource {
  const { lanes, group } = profileOf(gpu);
  if (lanes > 1 && gpu.gpu.adapter.subgroupMinSize >= lanes) {
    return { source: laneSumSubgroups, constants: {} };
  }
  return { source: laneSum, constants: { LANE_SUMS: lanes === 1 ? 1 : group } };
}

interface KernelSource {
  readonly source: string;
  readonly constants: Readonly<Record<string, number>>;
}

/** No tile is twice as tall as the product, and there are enough of them. */
function suits(one: Tiling, product: Product, { maxEdge }: Operands, minTiles: number): boolean {
  const isTooTall = one.tall * one.threadsDown >= 2 * product.m;
  const [down, across] = tilesOf(product, one);
  return one.tall <= maxEdge && !isTooTall && down * across >= minTiles;
}

function tilesOf({ m, n }: Product, tiling: Tiling): readonly [down: number, across: number] {
  const { tall, wide, threadsDown, threadsAcross } = tiling;
  return [Math.ceil(m / (tall * threadsDown)), Math.ceil(n / (wide * threadsAcross))];
}

function tensorsOf({ out, right, left, addend }: Product, operands: Operands): Operand[] {
  const { leftLines, rightLines } = operands;
  return [
    out,
    rightLines === null ? right : { texels: right, place: RIGHT_PLACE, lines: rightLines },
    leftLines === null ? left : { texels: left, place: LEFT_PLACE, lines: leftLines },
    addend === "out" ? null : addend,
  ];
}

/** The shaders' NO_ADDEND, ADDEND and OUT_ITSELF. */
function addendKind({ addend }: Product): number {
  return addend === null ? 0 : addend === "out" ? 2 : 1;
}

function isOutAligned({ out, addend, n, outWidth, outColumn }: Product): boolean {
  const isAddendAligned = addend === null || addend === "out" || addend.byteOffset % 16 === 0;
  return (n | outWidth | outColumn) % 4 === 0 && out.byteOffset % 16 === 0 && isAddendAligned;
}

/** Sources that read the two operands, and what names this choice. */
interface Operands {
  readonly key: string;
  /** How they lie in textures; null where they are read out of their buffers. */
  readonly leftLines: TexelLines | null;
  readonly rightLines: TexelLines | null;
  /** The column of what is read as left at which the product starts. */
  readonly leftColumn: number;
  /** Larger tiles of a thread are not worth their code, in seconds of compiling on a processor. */
  readonly maxEdge: number;
  readonly sources: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
}

function operandsOf(product: Product, wanted: "both" | "left" | "none"): Operands {
  const { left, right, leftWidth, leftColumn, rightWidth } = product;
  const isLeftAligned = (leftWidth | leftColumn) % 4 === 0 && left.byteOffset % 16 === 0;
  const isRightWhole = rightWidth % 4 === 0;
  const isRightAligned = isRightWhole && right.dtype === "f32" && right.byteOffset % 16 === 0;
  const texels = wanted === "both" && isLeftAligned && isRightAligned ? texelsOf(product) : null;
  if (texels !== null) return texels;
  const isFlat = wanted === "left" && isLeftAligned;
  const rows = isFlat ? rowsTexels : isLeftAligned ? rowsAligned : rowsAny;
  const leftConstants: Record<string, number> = isFlat ? { TEXELS_PER_ROW } : {};
  const weight = isRightAligned ? [weightAligned] : [elements, weightAny];
  const weightConstants: Record<string, number> = isRightAligned
    ? {}
    : { DTYPE: weightTypeCode(right.dtype), IS_WHOLE: Number(isRightWhole) };
  return {
    key: `${isFlat} ${isLeftAligned} ${isRightWhole} ${isRightAligned} ${right.dtype}`,
    leftLines: isFlat ? FLAT_LINES : null,
    rightLines: null,
    leftColumn,
    maxEdge: !isLeftAligned || !isRightWhole ? 4 : 8,
    sources: [rows, ...weight],
    constants: { ...leftConstants, ...weightConstants },
  };
}

/** Both operands as texels; null where they do not fit into textures. */
function texelsOf(product: Product): Operands | null {
  const { left, right, leftWidth, leftColumn, rightWidth, isLeftAlongK, m, k } = product;
  const leftRows = elementCount(left.shape) / leftWidth;
  const rightRows = elementCount(right.shape) / rightWidth;
  const leftEnd = leftColumn + (isLeftAlongK ? k : m);
  const leftLines = matrixLines(leftRows, leftWidth, leftColumn, leftEnd);
  const rightLines = matrixLines(rightRows, rightWidth, 0, rightWidth);
  if (leftLines === null || rightLines === null || k % 4 !== 0 || leftEnd % 4 !== 0) return null;
  return {
    key: `texels ${leftLines.rowsPerLine} ${rightLines.rowsPerLine}`,
    leftLines,
    rightLines,
    leftColumn: leftColumn - leftLines.firstColumn,
    maxEdge: 16,
    sources: [],
    constants: {
      LEFT_ROWS_PER_LINE: leftLines.rowsPerLine,
      RIGHT_ROWS_PER_LINE: rightLines.rowsPerLine,
    },
  };
}
