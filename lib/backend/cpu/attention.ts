// Causal grouped-query attention on the CPU: training, and against the key/value cache.

import type { Ops } from "../../core/ops.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/attention.c; allocates nothing per call. */
export function attentionOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    attentionForward(out, lse, qkv) {
      const [b, t, h, d] = out.shape;
      const k = (qkv.shape[2] - h) / 2;
      kernels.attention_forward(
        context,
        cpu.output(out),
        cpu.optionalOutput(lse),
        cpu.input(qkv),
        b,
        t,
        h,
        k,
        d,
      );
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const [b, t, h, d] = out.shape;
      const k = (qkv.shape[2] - h) / 2;
      kernels.attention_backward(
        context,
        cpu.output(dQkv),
        cpu.input(dOut),
        cpu.input(qkv),
        cpu.input(out),
        cpu.input(lse),
        b,
        t,
        h,
        k,
        d,
      );
    },
    attentionCached(out, qkv, keys, values, positions) {
      const [b, t, h, d] = out.shape;
      const k = keys.shape[1], s = keys.shape[2];
      kernels.attention_cached(
        context,
        cpu.output(out),
        cpu.input(qkv),
        cpu.input(keys),
        cpu.input(values),
        cpu.input(positions),
        b,
        t,
        h,
        k,
        d,
        s,
      );
    },
  } satisfies Partial<Ops>;
}
