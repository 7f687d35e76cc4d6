// Rotary position embedding on WebGPU, in place, and its inverse.

import rope from "../../../kernels/wgsl/rope.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;

/** Compiles kernels/wgsl/rope.wgsl; allocates nothing per call. */
export async function ropeOps(gpu: GpuContext) {
  const kernels = await gpu.compile("rope", [rope], {
    rotate: { entryPoint: "rotate", constants: { GROUP } },
  });
  const rotate = (
    qkv: Tensor,
    table: Tensor,
    positions: Tensor,
    rotated: number,
    heads: number,
    sign: number,
  ) => {
    const n = elementCount(positions.shape), d = rowWidth(table), half = d / 2;
    for (const [first, end] of rowRanges(gpu, n, 4 * heads * d)) {
      const pairs = (end - first) * rotated * half;
      gpu.run(
        kernels.rotate,
        [rowsOf(qkv, n, first, end), table, rowsOf(positions, n, first, end)],
        [pairs, rotated, heads, half],
        [sign],
        Math.ceil(pairs / GROUP),
      );
    }
  };
  return {
    ropeForward(qkv, table, positions, numHeads, numKvHeads) {
      rotate(qkv, table, positions, numHeads + numKvHeads, numHeads + 2 * numKvHeads, 1);
    },
    ropeBackward(dQkv, table, positions, numHeads, numKvHeads) {
      rotate(dQkv, table, positions, numHeads + numKvHeads, numHeads + 2 * numKvHeads, -1);
    },
  } satisfies Partial<Ops>;
}
