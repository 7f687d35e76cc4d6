// Rotary position embedding on CUDA, in place, and its inverse.

import ptx from "../../../kernels/dist/rope.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/rope_90.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth, type Tensor } from "../../core/tensor.ts";
import { type CudaContext, f32, i32 } from "./context.ts";
import { packWidth, rowThreads, scalarOf } from "./geometry.ts";

/** Loads kernels/cuda/rope.cu; allocates nothing per call. */
export function ropeOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const rope = `rope_${scalar}` as const;
  const kernels = cuda.load("rope", ptx, [rope], { ptx: dependentPtx, entries: [rope] });
  const rotate = (
    qkv: Tensor,
    table: Tensor,
    positions: Tensor,
    h: number,
    k: number,
    sign: number,
  ) => {
    const n = elementCount(positions.shape), d = rowWidth(table), rotated = h + k;
    const threads = rowThreads(rotated * Math.ceil(d / 2 / width));
    const sizes = [i32(rotated), i32(rotated + k), i32(d)];
    const args = [qkv, table, positions, ...sizes, f32(sign)];
    cuda.launch(kernels[rope], [n, 1, 1], [threads, 1, 1], 0, args);
  };
  return {
    ropeForward(qkv, table, positions, numHeads, numKvHeads) {
      rotate(qkv, table, positions, numHeads, numKvHeads, 1);
    },
    ropeBackward(dQkv, table, positions, numHeads, numKvHeads) {
      rotate(dQkv, table, positions, numHeads, numKvHeads, -1);
    },
  } satisfies Partial<Ops>;
}
