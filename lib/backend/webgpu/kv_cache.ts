// Storing keys and values of new tokens on WebGPU.

import kvCache from "../../../kernels/wgsl/kv_cache.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import type { GpuContext } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;

/** Compiles kernels/wgsl/kv_cache.wgsl; allocates nothing per call. */
export async function kvCacheOps(gpu: GpuContext) {
  const kernels = await gpu.compile("kv cache", [kvCache], {
    append: { entryPoint: "append", constants: { GROUP } },
  });
  return {
    kvCacheAppend(keys, values, qkv, positions) {
      const [b, t, heads, d] = qkv.shape, [, k, s] = keys.shape;
      for (const [first, end] of rowRanges(gpu, b, 4 * d * Math.max(k * s, t * heads))) {
        const part = (tensor: typeof keys) => rowsOf(tensor, b, first, end);
        const count = (end - first) * t * k * d;
        gpu.run(
          kernels.append,
          [part(keys), part(values), part(qkv), part(positions)],
          [count, t, heads, k, d, s],
          [],
          Math.ceil(count / GROUP),
        );
      }
    },
  } satisfies Partial<Ops>;
}
