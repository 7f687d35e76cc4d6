// Which variant of the matrix product kernels computes a product: by how its operands lie, by their type, by its size and
// by the adapter. Variants are compiled at their first use.

import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import laneSum from "../../../kernels/wgsl/lane_sum.wgsl" with { type: "text" };
import laneSumSubgroups from "../../../kernels/wgsl/lane_sum_subgroups.wgsl" with { type: "text" };
import linear from "../../../kernels/wgsl/linear.wgsl" with { type: "text" };
import matvec from "../../../kernels/wgsl/matvec.wgsl" with { type: "text" };
import matvecQuantized from "../../../kernels/wgsl/matvec_quantized.wgsl" with { type: "text" };
import outAligned from "../../../kernels/wgsl/out_aligned.wgsl" with { type: "text" };
import outAny from "../../../kernels/wgsl/out_any.wgsl" with { type: "text" };
import rowsAligned from "../../../kernels/wgsl/rows_aligned.wgsl" with { type: "text" };
import rowsAny from "../../../kernels/wgsl/rows_any.wgsl" with { type: "text" };
import tile16 from "../../../kernels/wgsl/tile_16.wgsl" with { type: "text" };
import tile4 from "../../../kernels/wgsl/tile_4.wgsl" with { type: "text" };
import tile8 from "../../../kernels/wgsl/tile_8.wgsl" with { type: "text" };
import weightAligned from "../../../kernels/wgsl/weight_aligned.wgsl" with { type: "text" };
import weightAny from "../../../kernels/wgsl/weight_any.wgsl" with { type: "text" };
import { isQuantized } from "../../core/dtype.ts";
import type { Tensor } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { weightTypeCode } from "./elements.ts";

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
  readonly edge: number;
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
  /** Rows up to which matvec.wgsl is the faster kernel, at most its MAX_ROWS. */
  readonly maxFewRows: number;
  /** Threads that share rows of a weight in matvec.wgsl, and threads of its workgroups. */
  readonly lanes: number;
  readonly group: number;
}

/** Tiles of 64 x 64 and 32 x 32 elements, 16 deep: 8 and 4 KiB of workgroup memory, 64 threads. */
const HARDWARE: Profile = {
  tilings: [
    { source: tile8, edge: 8, threadsDown: 8, threadsAcross: 8, depth: 4 },
    { source: tile4, edge: 4, threadsDown: 8, threadsAcross: 8, depth: 4 },
  ],
  minTiles: 128,
  maxFewRows: 8,
  lanes: 32,
  group: 128,
};

/**
 * A processor loads the addresses of its 8 lanes one by one and runs barriers as coroutines: a thread's tile is large,
 * and nothing is shared. Measured with llvmpipe.
 */
const SOFTWARE: Profile = {
  tilings: [
    { source: tile16, edge: 16, threadsDown: 1, threadsAcross: 8, depth: 0 },
    { source: tile8, edge: 8, threadsDown: 1, threadsAcross: 8, depth: 0 },
    { source: tile4, edge: 4, threadsDown: 1, threadsAcross: 8, depth: 0 },
  ],
  minTiles: 4,
  maxFewRows: 4,
  lanes: 1,
  group: 8,
};

/** Enqueues one product. */
export function multiply(gpu: GpuContext, product: Product): void {
  const isWithWeight = product.isLeftAlongK && product.isRightAlongK;
  if (isWithWeight && product.m <= profileOf(gpu).maxFewRows) multiplyFew(gpu, product);
  else multiplyTiled(gpu, product);
}

function multiplyTiled(gpu: GpuContext, product: Product): void {
  const { m, n, k, isLeftAlongK, isRightAlongK } = product;
  const { tilings, minTiles } = profileOf(gpu);
  const operands = operandsOf(product), isAligned = isOutAligned(product);
  const tiling =
    tilings.find((one) => one.edge <= operands.maxEdge && tileCount(product, one) >= minTiles) ??
      tilings[tilings.length - 1];
  const along = `${Number(isLeftAlongK)}${Number(isRightAlongK)}`;
  const key = `linear ${tiling.edge} ${along} ${isAligned} ${operands.key}`;
  const kernel = gpu.variant(key, () => ({
    sources: [...operands.sources, isAligned ? outAligned : outAny, tiling.source, linear],
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
  const integers = [
    m,
    n,
    k,
    product.outWidth,
    product.outColumn,
    product.leftWidth,
    product.leftColumn,
    product.rightWidth,
    addendKind(product),
    Math.ceil(m / (tiling.edge * tiling.threadsDown)),
  ];
  gpu.run(kernel, tensorsOf(product), integers, [], tileCount(product, tiling));
}

function multiplyFew(gpu: GpuContext, product: Product): void {
  const { m, n, k, outWidth, outColumn, right } = product;
  const { lanes, group } = profileOf(gpu);
  const operands = operandsOf(product);
  const kernel = gpu.variant(`matvec ${m} ${operands.key}`, () => {
    const quantized = isQuantized(right.dtype);
    const sum = laneSums(gpu);
    return {
      sources: [...operands.sources, sum.source, matvec, ...(quantized ? [matvecQuantized] : [])],
      entryPoint: quantized ? "product_quantized" : "product",
      constants: {
        ...operands.constants,
        ...sum.constants,
        LANES: lanes,
        GROUP: group,
        ROWS: m,
      },
    };
  });
  const groups = Math.ceil(n / 4 / (group / lanes));
  const integers = [n, k, outWidth, outColumn, addendKind(product)];
  gpu.run(kernel, tensorsOf(product), integers, [], groups);
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

function tileCount({ m, n }: Product, { edge, threadsDown, threadsAcross }: Tiling): number {
  return Math.ceil(m / (edge * threadsDown)) * Math.ceil(n / (edge * threadsAcross));
}

function tensorsOf({ out, right, left, addend }: Product): (Tensor | null)[] {
  return [out, right, left, addend === "out" ? null : addend];
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
  /** Larger tiles of a thread are not worth their code, in seconds of compiling on a processor. */
  readonly maxEdge: number;
  readonly sources: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
}

function operandsOf({ left, right, leftWidth, leftColumn, rightWidth }: Product): Operands {
  const isLeftAligned = (leftWidth | leftColumn) % 4 === 0 && left.byteOffset % 16 === 0;
  const isRightWhole = rightWidth % 4 === 0;
  const isRightAligned = isRightWhole && right.dtype === "f32" && right.byteOffset % 16 === 0;
  const rows = isLeftAligned ? rowsAligned : rowsAny;
  const key = `${isLeftAligned} ${isRightWhole} ${isRightAligned} ${right.dtype}`;
  const maxEdge = !isLeftAligned || !isRightWhole ? 4 : isRightAligned ? 16 : 8;
  if (isRightAligned) return { key, maxEdge, sources: [rows, weightAligned], constants: {} };
  const constants = { DTYPE: weightTypeCode(right.dtype), IS_WHOLE: Number(isRightWhole) };
  return { key, maxEdge, sources: [rows, elements, weightAny], constants };
}
