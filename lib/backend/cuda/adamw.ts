// The optimizer update on CUDA: on an f32 master copy of bf16 parameters, or on f32 parameters themselves.

import ptx from "../../../kernels/dist/adamw.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import { type CudaContext, f32, i32 } from "./context.ts";
import { flat } from "./geometry.ts";

/** Elements of a thread at a time. */
const WIDTH = 4;
/** Blocks that a multiprocessor holds, as in kernels/cuda/adamw.cu; their threads then go on with what is left. */
const RESIDENT_BLOCKS = 5;

/** Loads kernels/cuda/adamw.cu; allocates nothing per call. */
export function adamwOps(cuda: CudaContext) {
  const kernels = cuda.load("adamw", ptx, ["adamw_update_bf16", "adamw_update_f32"]);
  return {
    adamwUpdate(param, master, grad, m, v, clip, schedule, options) {
      const count = elementCount(param.shape), { grid, block } = flat(Math.ceil(count / WIDTH));
      const kernel = master === null ? kernels.adamw_update_f32 : kernels.adamw_update_bf16;
      const { beta1, beta2, epsilon, weightDecay } = options;
      const blocks = Math.min(RESIDENT_BLOCKS * cuda.multiprocessors, grid[0]);
      cuda.launch(kernel, [blocks, 1, 1], block, 0, [
        ...(master === null ? [param] : [param, master]),
        ...[grad, m, v, clip, schedule, i32(count)],
        ...[f32(beta1), f32(beta2), f32(epsilon), f32(weightDecay)],
      ]);
    },
  } satisfies Partial<Ops>;
}
