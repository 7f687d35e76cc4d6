// Rotary position embedding on the CPU, in place, and its inverse.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/rope.c; allocates nothing per call. */
export function ropeOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    ropeForward(qkv, table, positions, numHeads, numKvHeads) {
      const n = elementCount(positions.shape), d = table.shape[table.shape.length - 1];
      const rotated = numHeads + numKvHeads, heads = rotated + numKvHeads;
      kernels.rope(
        context,
        cpu.output(qkv),
        cpu.input(table),
        cpu.input(positions),
        n,
        rotated,
        heads,
        d,
        0,
      );
    },
    ropeBackward(dQkv, table, positions, numHeads, numKvHeads) {
      const n = elementCount(positions.shape), d = table.shape[table.shape.length - 1];
      const rotated = numHeads + numKvHeads, heads = rotated + numKvHeads;
      kernels.rope(
        context,
        cpu.output(dQkv),
        cpu.input(table),
        cpu.input(positions),
        n,
        rotated,
        heads,
        d,
        1,
      );
    },
  } satisfies Partial<Ops>;
}
