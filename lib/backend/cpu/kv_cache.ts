// Storing keys and values of new tokens on the CPU.

import type { Ops } from "../../core/ops.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/kv_cache.c; allocates nothing per call. */
export function kvCacheOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    kvCacheAppend(keys, values, qkv, positions) {
      const [b, t, heads, d] = qkv.shape;
      const k = keys.shape[1], s = keys.shape[2];
      kernels.kv_cache_append(
        context,
        cpu.output(keys),
        cpu.output(values),
        cpu.input(qkv),
        cpu.input(positions),
        b,
        t,
        heads - 2 * k,
        k,
        d,
        s,
      );
    },
  } satisfies Partial<Ops>;
}
