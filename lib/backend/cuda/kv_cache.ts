// Storing keys and values of new tokens on CUDA.

import ptx from "../../../kernels/dist/kv_cache.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/kv_cache_90.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { type CudaContext, i32 } from "./context.ts";
import { flat, packWidth, scalarOf } from "./geometry.ts";

/** Loads kernels/cuda/kv_cache.cu; allocates nothing per call. */
export function kvCacheOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const append = `kv_cache_append_${scalar}` as const;
  const kernels = cuda.load("kv_cache", ptx, [append], { ptx: dependentPtx, entries: [append] });
  return {
    kvCacheAppend(keys, values, qkv, positions) {
      const [b, t, heads, d] = qkv.shape;
      const k = keys.shape[1], s = keys.shape[2];
      const { grid, block } = flat(b * t * 2 * k * Math.ceil(d / width));
      const sizes = [i32(b * t), i32(t), i32(heads - 2 * k), i32(k), i32(d), i32(s)];
      cuda.launch(kernels[append], grid, block, 0, [keys, values, qkv, positions, ...sizes]);
    },
  } satisfies Partial<Ops>;
}
