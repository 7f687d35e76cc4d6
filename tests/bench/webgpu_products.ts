// Matrix products and attention for webgpu_bench.ts: training's products in GFLOP/s, decoding's in GB/s of weights and cache.

import type { Backend } from "../../lib/core/backend.ts";
import { byteLength, elementCount, rows, type Tensor } from "../../lib/core/tensor.ts";
import { attentionWidth, type ModelConfig } from "../../lib/model/config.ts";

/** An operation on tensors of its own: what it moves or computes. */
export interface Case {
  readonly name: string;
  readonly unit: "GB/s" | "GFLOP/s";
  /** Bytes or floating-point operations. */
  readonly amount: number;
  readonly run: () => void;
}

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;
const i32 = (...shape: number[]) => ({ dtype: "i32", shape }) as const;

/** Rows of a decoding step. */
const FEW_ROWS = [1, 8];

function allocateOperands(backend: Backend, model: ModelConfig, N: number) {
  const { hiddenSize: C, intermediateSize: F, numHeads: H, numKvHeads: K, headDim: D } = model;
  const arena = backend.allocate("products", {
    x: f32(N, C),
    gateUp: f32(N, 2 * F),
    f32: f32(2 * F, C),
    bf16: { dtype: "bf16", shape: [2 * F, C] },
    q8_0: { dtype: "q8_0", shape: [2 * F, C] },
    q4_0: { dtype: "q4_0", shape: [2 * F, C] },
    qkv: f32(1, N, H + 2 * K, D),
    dQkv: f32(1, N, H + 2 * K, D),
    attnOut: f32(1, N, H, D),
    dAttnOut: f32(1, N, H, D),
    lse: f32(1, H, N),
    newQkv: f32(1, 1, H + 2 * K, D),
    newOut: f32(1, 1, H, D),
    keys: f32(1, K, N, D),
    values: f32(1, K, N, D),
    position: i32(1, 1),
  });
  const t = arena.tensors;
  for (const [seed, x] of [t.x, t.gateUp, t.f32, t.qkv, t.newQkv, t.keys, t.values].entries()) {
    backend.write(
      x,
      Float32Array.from({ length: elementCount(x.shape) }, (_, i) => Math.sin(i * 1.37 + seed)),
    );
  }
  backend.write(t.position, Int32Array.of(N - 1));
  backend.cast(t.bf16, t.f32);
  backend.quantize(t.q8_0, t.f32);
  backend.quantize(t.q4_0, t.f32);
  return arena;
}

/** Cases on `N` rows, with their operands, which `using` frees. Causal attention counts half the scores. */
export function productCases(ops: Backend, model: ModelConfig, N: number) {
  const arena = allocateOperands(ops, model, N), t = arena.tensors;
  const product = (name: string, amount: number, run: () => void): Case => ({
    ...{ name, unit: "GFLOP/s", amount, run },
  });
  const amount = 4 * N * model.hiddenSize * model.intermediateSize;
  const scores = 2 * N * N * attentionWidth(model);
  const few = (weight: Tensor, count: number): Case => ({
    name: `linearForward ${count} x ${weight.dtype}`,
    unit: "GB/s",
    amount: byteLength(weight),
    run: () => ops.linearForward(rows(t.gateUp, 0, count), rows(t.x, 0, count), weight, null),
  });
  const cases: Case[] = [
    product("linearForward", amount, () => ops.linearForward(t.gateUp, t.x, t.f32, null)),
    product("linearForward q4_0", amount, () => ops.linearForward(t.gateUp, t.x, t.q4_0, null)),
    product(
      "linearBackwardInput",
      amount,
      () => ops.linearBackwardInput(t.x, t.gateUp, t.f32),
    ),
    product(
      "linearBackwardWeight",
      amount,
      () => ops.linearBackwardWeight(t.f32, t.gateUp, t.x),
    ),
    product("attentionForward", scores, () => ops.attentionForward(t.attnOut, t.lse, t.qkv)),
    product(
      "attentionBackward",
      2.5 * scores,
      () => ops.attentionBackward(t.dQkv, t.dAttnOut, t.qkv, t.attnOut, t.lse),
    ),
    ...[t.f32, t.bf16, t.q8_0, t.q4_0].flatMap((weight) =>
      FEW_ROWS.map((count) => few(weight, count))
    ),
    {
      name: `attentionCached 1 x ${N}`,
      unit: "GB/s",
      amount: 2 * byteLength(t.keys),
      run: () => ops.attentionCached(t.newOut, t.newQkv, t.keys, t.values, t.position),
    },
  ];
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}
