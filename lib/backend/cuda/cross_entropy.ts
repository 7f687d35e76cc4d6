// Losses of logits on CUDA, and their gradient in place.

import ptx from "../../../kernels/dist/cross_entropy.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth } from "../../core/tensor.ts";
import { type CudaContext, f32, i32 } from "./context.ts";
import { packWidth, rowThreads, scalarOf } from "./geometry.ts";

/** As in kernels/cuda/cross_entropy.cu: a thread keeps several packs. */
const MAX_THREADS = 512;

/** Loads kernels/cuda/cross_entropy.cu; allocates nothing per call. */
export function crossEntropyOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const forward = `cross_entropy_forward_${scalar}` as const;
  const both = `cross_entropy_forward_backward_${scalar}` as const;
  const kernels = cuda.load("cross_entropy", ptx, [forward, both]);
  return {
    crossEntropyForward(losses, logits, targets) {
      const n = elementCount(targets.shape), v = rowWidth(logits);
      const threads = Math.min(MAX_THREADS, rowThreads(v / width));
      const args = [losses, logits, targets, i32(v)];
      cuda.launch(kernels[forward], [n, 1, 1], [threads, 1, 1], 0, args);
    },
    crossEntropyForwardBackward(losses, logits, targets, scale) {
      const n = elementCount(targets.shape), v = rowWidth(logits);
      const threads = Math.min(MAX_THREADS, rowThreads(v / width));
      const args = [losses, logits, targets, i32(v), f32(scale)];
      cuda.launch(kernels[both], [n, 1, 1], [threads, 1, 1], 0, args);
    },
  } satisfies Partial<Ops>;
}
