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
import type { GpuContext, Kernel } from "./context.ts";
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
  readonly name: string;
  readonly source: string;
  /** Elements of a thread, down and across. */
  readonly edge: number;
  readonly threadsDown: number;
  readonly threadsAcross: number;
  /** Blocks of depth in workgroup memory; 0 reads operands directly. */
  readonly depth: number;
}

/** From the largest to the smallest. Graphics hardware: 64 x 64 and 32 x 32 elements, 16 deep, 8 and 4 KiB. */
const HARDWARE_TILINGS: readonly Tiling[] = [
  { name: "8", source: tile8, edge: 8, threadsDown: 8, threadsAcross: 8, depth: 4 },
  { name: "4", source: tile4, edge: 4, threadsDown: 8, threadsAcross: 8, depth: 4 },
];
/** A processor loads 8 lanes one by one and runs barriers as coroutines: large tiles of a thread, no shared ones. */
const SOFTWARE_TILINGS: readonly Tiling[] = [
  { name: "16", source: tile16, edge: 16, threadsDown: 1, threadsAcross: 8, depth: 0 },
  { name: "8", source: tile8, edge: 8, threadsDown: 1, threadsAcross: 8, depth: 0 },
  { name: "4", source: tile4, edge: 4, threadsDown: 1, threadsAcross: 8, depth: 0 },
];
/** A tiling with fewer workgroups than this leaves parts of the adapter idle. */
const MIN_TILES = { hardware: 128, software: 4 };

const MAX_FEW_ROWS = 8;

/** The matrix products of one device. */
export function linearKernels(gpu: GpuContext) {
  const { adapter } = gpu.gpu;
  const kernels = new Map<string, Kernel>();
  const tilings = adapter.isSoftware ? SOFTWARE_TILINGS : HARDWARE_TILINGS;
  const minTiles = adapter.isSoftware ? MIN_TILES.software : MIN_TILES.hardware;
  const lanes = adapter.isSoftware ? 1 : 32;
  const group = adapter.isSoftware ? 8 : 128;
  const hasSubgroups = adapter.subgroupMinSize >= lanes && lanes > 1;

  function variant(key: string, make: () => Kernel): Kernel {
    let kernel = kernels.get(key);
    if (kernel === undefined) kernels.set(key, kernel = make());
    return kernel;
  }

  function compileTiled(product: Product, tiling: Tiling, operands: Operands): Kernel {
    const stores = isOutAligned(product) ? outAligned : outAny;
    return gpu.compileNow("linear", [...operands.sources, stores, tiling.source, linear], {
      entryPoint: "product",
      constants: {
        ...operands.constants,
        IS_LEFT_ALONG_K: Number(product.isLeftAlongK),
        IS_RIGHT_ALONG_K: Number(product.isRightAlongK),
        THREADS_DOWN: tiling.threadsDown,
        THREADS_ACROSS: tiling.threadsAcross,
        DEPTH: tiling.depth,
      },
    });
  }

  function compileFew(product: Product, operands: Operands): Kernel {
    const quantized = isQuantized(product.right.dtype);
    const sum = hasSubgroups ? laneSumSubgroups : laneSum;
    const laneSums: Record<string, number> = hasSubgroups
      ? {}
      : { LANE_SUMS: lanes === 1 ? 1 : group };
    const sources = [...operands.sources, sum, matvec, ...(quantized ? [matvecQuantized] : [])];
    return gpu.compileNow("matvec", sources, {
      entryPoint: quantized ? "product_quantized" : "product",
      constants: {
        ...operands.constants,
        ...laneSums,
        LANES: lanes,
        GROUP: group,
        ROWS: product.m,
      },
    });
  }

  return {
    /** Rows up to which `multiplyFew` is the faster one. */
    maxFewRows: MAX_FEW_ROWS,

    /** Any product. */
    multiply(product: Product): void {
      const { m, n, k, isLeftAlongK, isRightAlongK } = product;
      const operands = operandsOf(product);
      const tiling = tilings.find((one) => tileCount(product, one) >= minTiles) ??
        tilings[tilings.length - 1];
      const along = `${Number(isLeftAlongK)}${Number(isRightAlongK)}`;
      const key = `${operands.key} ${isOutAligned(product)} ${tiling.name} ${along}`;
      const kernel = variant(key, () => compileTiled(product, tiling, operands));
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
    },

    /** A product of at most `maxFewRows` rows with a whole weight (n, k). */
    multiplyFew(product: Product): void {
      const { m, n, k, outWidth, outColumn } = product;
      const operands = operandsOf(product);
      const kernel = variant(`${operands.key} few ${m}`, () => compileFew(product, operands));
      const groups = Math.ceil(Math.ceil(n / 4) / (group / lanes));
      const integers = [n, k, outWidth, outColumn, addendKind(product)];
      gpu.run(kernel, tensorsOf(product), integers, [], groups);
    },
  };
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
  readonly sources: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
}

function operandsOf({ left, right, leftWidth, leftColumn, rightWidth }: Product): Operands {
  const isLeftAligned = (leftWidth | leftColumn) % 4 === 0 && left.byteOffset % 16 === 0;
  const isRightWhole = rightWidth % 4 === 0;
  const isRightAligned = isRightWhole && right.dtype === "f32" && right.byteOffset % 16 === 0;
  const rows = isLeftAligned ? rowsAligned : rowsAny;
  const key = `${isLeftAligned} ${isRightWhole} ${isRightAligned} ${right.dtype}`;
  if (isRightAligned) return { key, sources: [rows, weightAligned], constants: {} };
  const constants = { DTYPE: weightTypeCode(right.dtype), IS_WHOLE: Number(isRightWhole) };
  return { key, sources: [rows, elements, weightAny], constants };
}
