// Matrix products of few rows, bound by reading the weight: what decoding needs. Where a processor plays the graphics card,
// weights of 16 or fewer bits an element are packed into a texture of their own.

import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import laneSum from "../../../kernels/wgsl/lane_sum.wgsl" with { type: "text" };
import laneSumSubgroups from "../../../kernels/wgsl/lane_sum_subgroups.wgsl" with { type: "text" };
import matvec from "../../../kernels/wgsl/matvec.wgsl" with { type: "text" };
import matvecPacked from "../../../kernels/wgsl/matvec_packed.wgsl" with { type: "text" };
import matvecQuantized from "../../../kernels/wgsl/matvec_quantized.wgsl" with { type: "text" };
import weightPack from "../../../kernels/wgsl/weight_pack.wgsl" with { type: "text" };
import { isQuantized, QUANT_BLOCK } from "../../core/dtype.ts";
import { elementCount, type Tensor } from "../../core/tensor.ts";
import type { GpuContext, PackedOperand } from "./context.ts";
import { weightTypeCode } from "./elements.ts";
import { addendKind, operandsOf, type Product, readsTexels, tensorsOf } from "./linear_operands.ts";

/** Rows up to which these kernels are the faster ones: their MAX_ROWS. */
const MAX_FEW_ROWS = 8;

/** Threads that share rows of a weight in matvec.wgsl, and threads of its workgroups. */
const HARDWARE = { lanes: 32, group: 128 };
const SOFTWARE = { lanes: 1, group: 8 };

/** LANES_TOGETHER of matvec_packed.wgsl, and rows of the weight that a lane owns there. */
const PACKED_LANES = 8;
const PACKED_ROWS = 16;
/** Threads of a workgroup of weight_pack.wgsl. */
const PACK_GROUP = 64;

/** Enqueues a product of few rows with a weight, and says whether it did: others are better served by tiles. */
export function multiplyFew(gpu: GpuContext, product: Product): boolean {
  const { m, k, right, isLeftAlongK, isRightAlongK } = product;
  if (!isLeftAlongK || !isRightAlongK || m > MAX_FEW_ROWS) return false;
  const weight = readsTexels(gpu) ? packed(gpu, right, k) : null;
  if (weight !== null) multiplyPacked(gpu, product, weight);
  else if (m === 1 || !readsTexels(gpu)) multiplyPlain(gpu, product);
  else return false;
  return true;
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
    constants: { DTYPE: weightTypeCode(dtype), GROUP: PACK_GROUP },
  }));
  const operand = { packed: texture, weight };
  gpu.run(kernel, [operand, weight], [n, k, width], [], Math.ceil(width * height / PACK_GROUP));
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
    sources: [...operands.sources, laneSum, matvec, matvecPacked],
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

function multiplyPlain(gpu: GpuContext, product: Product): void {
  const { m, n, k, right, outWidth, outColumn } = product;
  const { lanes, group } = threadsOf(gpu);
  const operands = operandsOf(product, readsTexels(gpu) ? "left" : "none");
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

function threadsOf({ gpu }: GpuContext) {
  return gpu.adapter.isSoftware ? SOFTWARE : HARDWARE;
}

/** How the lanes of matvec.wgsl are added up. */
function laneSums(gpu: GpuContext): KernelSource {
  const { lanes, group } = threadsOf(gpu);
  if (lanes > 1 && gpu.gpu.adapter.subgroupMinSize >= lanes) {
    return { source: laneSumSubgroups, constants: {} };
  }
  return { source: laneSum, constants: { LANE_SUMS: lanes === 1 ? 1 : group } };
}

interface KernelSource {
  readonly source: string;
  readonly constants: Readonly<Record<string, number>>;
}
