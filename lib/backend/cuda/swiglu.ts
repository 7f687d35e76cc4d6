// The gated activation of the MLP on CUDA, forward and backward.

import ptx from "../../../kernels/dist/swiglu.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/swiglu_90.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth } from "../../core/tensor.ts";
import { type CudaContext, i32 } from "./context.ts";
import { independentRows, packWidth, scalarOf } from "./geometry.ts";

/** As in kernels/cuda/swiglu.cu: packs a thread moves at once, where there are at least so many rows. */
const PACKS = 2;
const MANY_ROWS = 128;
const MAX_THREADS = 384;

/** Loads kernels/cuda/swiglu.cu; allocates nothing per call. */
export function swigluOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const forward = `swiglu_forward_${scalar}` as const;
  const backward = `swiglu_backward_${scalar}` as const;
  const kernels = cuda.load("swiglu", ptx, [forward, backward], {
    ptx: dependentPtx,
    entries: [forward],
  });
  const geometry = (n: number, f: number) => {
    const packs = f / width / (n < MANY_ROWS ? 1 : PACKS);
    return independentRows(n, Math.min(MAX_THREADS, packs));
  };
  return {
    swigluForward(out, gateUp) {
      const f = rowWidth(gateUp) / 2, n = elementCount(out.shape) / f;
      const { grid, block } = geometry(n, f);
      cuda.launch(kernels[forward], grid, block, 0, [out, gateUp, i32(n), i32(f)]);
    },
    swigluBackward(dGateUp, dOut, gateUp) {
      const f = rowWidth(gateUp) / 2, n = elementCount(dOut.shape) / f;
      const { grid, block } = geometry(n, f);
      cuda.launch(kernels[backward], grid, block, 0, [dGateUp, dOut, gateUp, i32(n), i32(f)]);
    },
  } satisfies Partial<Ops>;
}
