// Setting all elements of a tensor on WebGPU; a dispatch like any other, so that it can be replayed.

import memory from "../../../kernels/wgsl/memory.wgsl" with { type: "text" };
import type { Memory } from "../../core/backend.ts";
import { elementCount } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;
const PER_THREAD = 4;

/** Compiles kernels/wgsl/memory.wgsl; allocates nothing per call. */
export async function fillOp(gpu: GpuContext): Promise<Memory["fill"]> {
  const kernels = await gpu.compile("fill", [memory], {
    fill: { entryPoint: "fill", constants: { GROUP, PER_THREAD } },
  });
  return (dst, value) => {
    if (dst.dtype !== "f32" && dst.dtype !== "i32") {
      throw new TypeError(`Cannot fill "${dst.name}" of ${dst.dtype}: expected f32 or i32`);
    }
    const bits = dst.dtype === "f32" ? floatBits(value) : value | 0;
    const count = elementCount(dst.shape);
    for (const [first, end] of rowRanges(gpu, count, 4)) {
      const words = end - first;
      const groups = Math.ceil(words / GROUP / PER_THREAD);
      gpu.run(kernels.fill, [rowsOf(dst, count, first, end)], [words, bits], [], groups);
    }
  };
}

function floatBits(value: number): number {
  return new Int32Array(Float32Array.of(value).buffer)[0];
}
