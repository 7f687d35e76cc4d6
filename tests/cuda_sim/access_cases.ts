// The operations that memory bounds, at the widths of TinyLlama 1.1B, and the least that each must move.

import type { Backend } from "../../lib/core/backend.ts";
import type { SamplingOptions } from "../../lib/core/ops.ts";
import { byteLength, rows, type Tensor } from "../../lib/core/tensor.ts";
import type { AccessLimits } from "./access_report.ts";

/** An operation, and what it may ask of memory. */
export interface AccessCase extends AccessLimits {
  readonly name: string;
  readonly run: () => void;
  /** True where it is so small that a card waits rather than reads. */
  readonly isSmall?: boolean;
  /** The reason for `again`, `efficiency` or `ways`. */
  readonly because?: string;
}

/** Cases with their operands, which `using` frees. */
export interface AccessCases extends Disposable {
  readonly cases: readonly AccessCase[];
}

const C = 2048, F = 5632, V = 32000, H = 32, K = 4, D = 64;
const N = 1024, M = 4, IDS = 512, TOKENS = 256, P = 1 << 20, S = 32;
const BF16 = 2, F32 = 4;
const ADAMW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

const SAMPLING = { temperature: 0.7, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

const bf16 = (...shape: number[]) => ({ dtype: "bf16", shape }) as const;
const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;
const i32 = (...shape: number[]) => ({ dtype: "i32", shape }) as const;

/** The kernels of the blocks in a training step. */
export function blockCases(ops: Backend): AccessCases {
  const arena = ops.allocate("accesses of blocks", {
    ...{
      x: bf16(N, C),
      out: bf16(N, C),
      dX: bf16(N, C),
      rstd: f32(N),
      norm: bf16(C),
      dNorm: f32(C),
    },
    ...{ tokens: i32(TOKENS), table: bf16(IDS, C), dTable: f32(IDS, C) },
    ...{ qkv: bf16(1, N, H + 2 * K, D), positions: i32(1, N), rope: f32(N, D) },
    ...{ gateUp: bf16(N / 8, 2 * F), half: bf16(N / 8, F) },
  });
  const t = arena.tensors;
  for (const one of [t.x, t.out, t.dX, t.norm, t.rstd, t.table, t.qkv, t.rope, t.gateUp, t.half]) {
    ops.fill(one, 1);
  }
  ops.write(t.tokens, Int32Array.from({ length: TOKENS }, (_, i) => i * 7919 % IDS));
  ops.write(t.positions, Int32Array.from({ length: N }, (_, i) => i));
  const chosen = rows(t.x, 0, TOKENS), rotated = BF16 * N * (H + K) * D;
  const mlpRows = N / 8, mlp = BF16 * mlpRows * F;
  const cases: AccessCase[] = [
    {
      name: "embeddingForward",
      run: () => ops.embeddingForward(chosen, t.tokens, t.table),
      bytes: 2 * BF16 * TOKENS * C,
    },
    {
      name: "embeddingBackward",
      run: () => ops.embeddingBackward(t.dTable, chosen, t.tokens),
      bytes: (BF16 + 2 * F32) * TOKENS * C,
    },
    {
      name: "rmsnormForward",
      run: () => ops.rmsnormForward(t.out, t.rstd, t.x, t.norm, 1e-5),
      bytes: 2 * BF16 * N * C,
      again: BF16 * N * C,
      because: "each row reads the weight",
    },
    {
      name: "rmsnormBackward",
      run: () => ops.rmsnormBackward(t.dX, t.dNorm, t.out, t.x, t.norm, t.rstd),
      bytes: 4 * BF16 * N * C,
    },
    {
      name: "ropeForward",
      run: () => ops.ropeForward(t.qkv, t.rope, t.positions, H, K),
      bytes: 2 * rotated + F32 * N * D,
      again: F32 * N * D * 8,
      efficiency: 0.8,
      because:
        "each warp of a row reads its angles, and halves of their sectors in two instructions",
    },
    {
      name: "swigluForward",
      run: () => ops.swigluForward(t.half, t.gateUp),
      bytes: 3 * mlp,
    },
    {
      name: "swigluBackward",
      run: () => ops.swigluBackward(t.gateUp, t.half, t.gateUp),
      bytes: 5 * mlp,
    },
  ];
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

/** The kernels of losses and of the optimizer. */
export function updateCases(ops: Backend): AccessCases {
  const arena = ops.allocate("accesses of an update", {
    ...{ logits: bf16(M, V), targets: i32(M), losses: f32(M) },
    ...{ param: bf16(P), master: f32(P), grad: f32(P), m: f32(P), v: f32(P) },
    ...{ sum: f32(1), clip: f32(2), schedule: f32(2) },
  });
  const t = arena.tensors;
  for (const one of [t.master, t.grad, t.m, t.v, t.clip, t.schedule, t.logits]) ops.fill(one, 1);
  ops.write(t.targets, Int32Array.from({ length: M }, (_, i) => i));
  const cases: AccessCase[] = [
    {
      name: "crossEntropyForwardBackward",
      run: () => ops.crossEntropyForwardBackward(t.losses, t.logits, t.targets, 1 / M),
      bytes: 2 * BF16 * M * V,
    },
    {
      name: "crossEntropyForward",
      run: () => ops.crossEntropyForward(t.losses, t.logits, t.targets),
      bytes: BF16 * M * V,
    },
    { name: "sumOfSquares", run: () => ops.sumOfSquares(t.sum, t.grad), bytes: F32 * P },
    {
      name: "adamwUpdate",
      run: () => ops.adamwUpdate(t.param, t.master, t.grad, t.m, t.v, t.clip, t.schedule, ADAMW),
      bytes: (BF16 + F32 + 3 * 2 * F32) * P,
    },
    {
      name: "cast f32 to bf16",
      run: () => ops.cast(t.param, t.master),
      bytes: (BF16 + F32) * P,
    },
  ];
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

/** The kernels of decoding. */
export function decodingCases(ops: Backend): AccessCases {
  const height = 256;
  const arena = ops.allocate("accesses of decoding", {
    ...{ x: bf16(8, C), out: bf16(8, height), bf16: bf16(height, C) },
    q8_0: { dtype: "q8_0", shape: [height, C] },
    q4_0: { dtype: "q4_0", shape: [height, C] },
    ...{ qkv: bf16(1, S, H + 2 * K, D), positions: i32(1, S), logits: f32(1, V) },
    ...{ keys: bf16(1, K, S, D), values: bf16(1, K, S, D), tokens: i32(1), logProbs: f32(1) },
    ...{ place: i32(1, 1), rng: i32(1, 3) },
  });
  const t = arena.tensors;
  for (const one of [t.x, t.bf16, t.qkv]) ops.fill(one, 1);
  ops.write(t.logits, Float32Array.from({ length: V }, (_, id) => Math.sin(id * id) * 8));
  for (const dtype of ["q8_0", "q4_0"] as const) ops.quantize(t[dtype], t.bf16);
  ops.write(t.positions, Int32Array.from({ length: S }, (_, i) => i));
  ops.write(t.place, Int32Array.of(0));
  ops.write(t.rng, Int32Array.of(1, 2, 3));
  const sample = (options: SamplingOptions) =>
    ops.sampleToken(t.tokens, t.place, t.logProbs, t.logits, null, t.rng, options);
  const out = rows(t.out, 0, 1), x = rows(t.x, 0, 1);
  const product = (weight: Tensor) => ({
    name: `linearForward of one row, ${weight.dtype}`,
    run: () => ops.linearForward(out, x, weight, null),
    bytes: byteLength(weight),
  });
  const tiled = (weight: Tensor, efficiency: number) => ({
    ...product(weight),
    efficiency,
    again: BF16 * height / 16 * C + byteLength(weight) / 8,
    because:
      "each tile of 16 rows reads x; spans of 8 blocks end within a sector, read by two warps",
  });
  const cases: AccessCase[] = [
    { ...product(t.bf16), again: BF16 * height * C, because: "each warp reads x" },
    tiled(t.q8_0, 0.91),
    tiled(t.q4_0, 0.88),
    {
      name: "linearForward of 8 rows, bf16",
      run: () => ops.linearForward(t.out, t.x, t.bf16, null),
      bytes: byteLength(t.bf16) + byteLength(t.x),
      again: BF16 * height / 2 * C,
      because: "each tile of 16 rows reads x",
    },
    {
      name: "kvCacheAppend",
      isSmall: true,
      run: () => ops.kvCacheAppend(t.keys, t.values, t.qkv, t.positions),
      bytes: 2 * 2 * BF16 * S * K * D,
    },
    {
      name: "sampleToken, the likeliest",
      isSmall: true,
      run: () => sample({ ...SAMPLING, temperature: 0 }),
      bytes: F32 * V,
    },
    {
      name: "sampleToken, top-k and top-p",
      isSmall: true,
      run: () => sample({ ...SAMPLING, topK: 50, topP: 0.9 }),
      bytes: F32 * V,
      again: F32 * V,
      ways: 8,
      because: "the second reading is the cache's; one warp adds up 256 counts, 8 a lane",
    },
  ];
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}
