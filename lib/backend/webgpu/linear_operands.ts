// How the matrix product kernels read their operands: from buffers, in fours where they are aligned, or as texels.

import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import rowsAligned from "../../../kernels/wgsl/rows_aligned.wgsl" with { type: "text" };
import rowsAny from "../../../kernels/wgsl/rows_any.wgsl" with { type: "text" };
import rowsTexels from "../../../kernels/wgsl/rows_texels.wgsl" with { type: "text" };
import weightAligned from "../../../kernels/wgsl/weight_aligned.wgsl" with { type: "text" };
import weightAny from "../../../kernels/wgsl/weight_any.wgsl" with { type: "text" };
import { elementCount, type Tensor } from "../../core/tensor.ts";
import type { GpuContext, Operand } from "./context.ts";
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

/** The textures of the two operands. */
const LEFT_PLACE = 0;
const RIGHT_PLACE = 1;

/** Whether 16 bytes at once are cheaper than words, as where a processor plays the graphics card. */
export function readsTexels({ gpu }: GpuContext): boolean {
  return gpu.adapter.isSoftware;
}

/** What `GpuContext.run` is given for a product. */
export function tensorsOf({ out, right, left, addend }: Product, operands: Operands): Operand[] {
  const { leftLines, rightLines } = operands;
  return [
    out,
    rightLines === null ? right : { texels: right, place: RIGHT_PLACE, lines: rightLines },
    leftLines === null ? left : { texels: left, place: LEFT_PLACE, lines: leftLines },
    addend === "out" ? null : addend,
  ];
}

/** The shaders' NO_ADDEND, ADDEND and OUT_ITSELF. */
export function addendKind({ addend }: Product): number {
  return addend === null ? 0 : addend === "out" ? 2 : 1;
}

/** Sources that read the two operands, and what names this choice. */
export interface Operands {
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

/** The texels wanted are used where the operands allow it. */
export function operandsOf(product: Product, wanted: "both" | "left" | "none"): Operands {
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
