// What one decoding step does, a kernel at a time: products that read a weight for one row, attention over the cache,
// drawing a token. Operands take turns, so that they come from memory as in a model whose weights no cache holds.

import type { Backend } from "../../lib/core/backend.ts";
import { byteLength, rows, type Tensor } from "../../lib/core/tensor.ts";
import type { ModelConfig } from "../../lib/model/config.ts";
import type { GpuCase, GpuCases } from "./gpu_cases.ts";
import { fillRandom } from "./gpu_random.ts";
import type { BenchSizes } from "./gpu_sizes.ts";

const MAX_TURNS = 64;
const QUANTIZED = ["q8_0", "q4_0"] as const;

const bf16 = (...shape: number[]) => ({ dtype: "bf16", shape }) as const;
const i32 = (...shape: number[]) => ({ dtype: "i32", shape }) as const;

/** Sets of `bytes` each that fill `sizes.turnBytes`. */
function turnsOf(bytes: number, { turnBytes }: BenchSizes): number {
  return Math.max(1, Math.min(MAX_TURNS, Math.ceil(turnBytes / bytes)));
}

/** Products of one row with weights of the types a model may have: the MLP's first, the largest of a block. */
export function matvecCases(ops: Backend, sizes: BenchSizes): GpuCases {
  const { hiddenSize: C, intermediateSize: F } = sizes.model;
  const turns = turnsOf(byteLength(bf16(2 * F, C)), sizes), height = 2 * F;
  const arena = ops.allocate("products of decoding", {
    ...{ x: bf16(1, C), out: bf16(1, height), bf16: bf16(turns * height, C) },
    q8_0: { dtype: "q8_0", shape: [turns * height, C] },
    q4_0: { dtype: "q4_0", shape: [turns * height, C] },
  });
  const t = arena.tensors;
  fillRandom(ops, t.x, 1);
  fillRandom(ops, t.bf16, 2);
  for (const dtype of QUANTIZED) ops.quantize(t[dtype], t.bf16);
  const one = (weight: Tensor): GpuCase => ({
    name: `linearForward, 1 x (${height}, ${C}) ${weight.dtype}`,
    bytes: byteLength({ dtype: weight.dtype, shape: [height, C] }),
    ...{ flops: null, turns },
    run(turn) {
      const part = rows(weight, turn * height, (turn + 1) * height);
      ops.linearForward(t.out, t.x, part, null);
    },
  });
  const cases = [t.bf16, t.q8_0, t.q4_0].map(one);
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

/** Attention of one query over a full cache, and drawing a token. */
export function cacheCases(ops: Backend, sizes: BenchSizes): GpuCases {
  const { model, length: S } = sizes;
  const { numHeads: H, numKvHeads: K, headDim: D, vocabSize: V } = model;
  const cacheBytes = 2 * byteLength(bf16(1, K, S, D)), turns = turnsOf(cacheBytes, sizes);
  const arena = ops.allocate("cache", {
    ...{ qkv: bf16(1, 1, H + 2 * K, D), out: bf16(1, 1, H, D), last: i32(1, 1), first: i32(1, 1) },
    ...{ keys: bf16(turns, K, S, D), values: bf16(turns, K, S, D), rng: i32(1, 3) },
    ...{ tokens: i32(1), logProbs: { dtype: "f32", shape: [1] } },
    logits: { dtype: "f32", shape: [1, V] },
  });
  const t = arena.tensors;
  [t.qkv, t.keys, t.values, t.logits].forEach((tensor, seed) => fillRandom(ops, tensor, seed));
  ops.write(t.last, Int32Array.of(S - 1));
  const cases: GpuCase[] = [
    {
      ...{ name: `attentionCached, 1 query x ${S} keys`, bytes: cacheBytes, flops: null, turns },
      run: (turn) =>
        ops.attentionCached(t.out, t.qkv, at(t.keys, turn), at(t.values, turn), t.last),
    },
    ...drawing(ops, model, t),
  ];
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

function at(tensor: Tensor, turn: number): Tensor {
  return rows(tensor, turn, turn + 1);
}

function drawing(
  ops: Backend,
  { vocabSize: V }: ModelConfig,
  t: Readonly<Record<"tokens" | "first" | "logProbs" | "logits" | "rng", Tensor>>,
): GpuCase[] {
  const off = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };
  const nucleus = { temperature: 0.7, topK: 50, topP: 0.9, minP: 0, repetitionPenalty: 1 };
  return [{ temperature: 0, ...off }, nucleus].map((options) => ({
    name: `sampleToken, ${options.temperature === 0 ? "greedy" : "top-k and top-p"}`,
    ...{ bytes: 4 * V, flops: null, turns: 1 },
    run: () => ops.sampleToken(t.tokens, t.first, t.logProbs, t.logits, null, t.rng, options),
  }));
}
