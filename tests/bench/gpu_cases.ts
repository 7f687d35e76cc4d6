// The operations of a training step that memory bounds, and the products, at a model's sizes: what each moves or computes.

import type { Backend } from "../../lib/core/backend.ts";
import { reshape, rows, type Tensor } from "../../lib/core/tensor.ts";
import { headRows, ropeTable } from "../../lib/model/activations.ts";
import { attentionWidth, qkvWidth } from "../../lib/model/config.ts";
import { fillRandom } from "./gpu_random.ts";
import type { BenchSizes } from "./gpu_sizes.ts";

/** An operation on operands of its own. */
export interface GpuCase {
  readonly name: string;
  /** Bytes read and written, for what memory bounds; null for products. */
  readonly bytes: number | null;
  /** Multiplications and additions of a product; null for what memory bounds. */
  readonly flops: number | null;
  /** How many sets of operands there are. */
  readonly turns: number;
  /** Enqueues the operation on one of them. */
  readonly run: (turn: number) => void;
}

/** Cases with their operands, which `using` frees. */
export interface GpuCases extends Disposable {
  readonly cases: readonly GpuCase[];
}

const BF16 = 2, F32 = 4;
const ADAMW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
/** bf16 parameters are written, f32 gradients read, master weights and both moments read and written. */
const ADAMW_BYTES = BF16 + F32 + 3 * 2 * F32;

const bf16 = (...shape: number[]) => ({ dtype: "bf16", shape }) as const;
const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;
const i32 = (...shape: number[]) => ({ dtype: "i32", shape }) as const;

/** Ids scattered over the vocabulary. */
function ids(count: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => i * 7919 % vocabSize);
}

/** Operands of the kernels of training, filled. `M` are the rows of the head, `P` the parameters of an update. */
function trainingOperands(
  ops: Backend,
  { model, batch: B, length: T }: BenchSizes,
  M: number,
  P: number,
) {
  const { hiddenSize: C, intermediateSize: F, vocabSize: V } = model;
  const { numHeads: H, numKvHeads: K, headDim: D } = model, N = B * T;
  const arena = ops.allocate("kernels of training", {
    ...{ x: bf16(N, C), out: bf16(N, C), dX: bf16(N, C), rstd: f32(N), losses: f32(M) },
    ...{ norm: bf16(C), dNorm: f32(C), tokens: i32(N), table: bf16(V, C), dTable: f32(V, C) },
    ...{ qkv: bf16(B, T, H + 2 * K, D), positions: i32(B, T), rope: f32(T, D) },
    ...{ gateUp: bf16(N, 2 * F), half: bf16(N, F), logits: bf16(M, V) },
    ...{ param: bf16(P), master: f32(P), grad: f32(P), m: f32(P), v: f32(P) },
    ...{ sum: f32(1), clip: f32(2), schedule: f32(2) },
  });
  const t = arena.tensors;
  const filled = [t.x, t.out, t.dX, t.table, t.qkv, t.gateUp, t.half, t.logits, t.master, t.grad];
  filled.forEach((tensor, seed) => fillRandom(ops, tensor, seed));
  ops.fill(t.norm, 1);
  ops.fill(t.rstd, 1);
  ops.write(t.tokens, ids(N, V));
  ops.write(t.positions, Int32Array.from({ length: N }, (_, i) => i % T));
  ops.write(t.rope, ropeTable(model, T));
  ops.write(t.clip, Float32Array.of(1, 1));
  ops.write(t.schedule, Float32Array.of(1e-4, 1));
  return arena;
}

/** What is bound by memory in training. */
export function trainingCases(ops: Backend, sizes: BenchSizes): GpuCases {
  const { model, batch, length } = sizes, N = batch * length;
  const { hiddenSize: C, intermediateSize: F, vocabSize: V } = model;
  const { numHeads: H, numKvHeads: K, headDim: D } = model;
  const M = headRows(model, N), P = 2 * F * C;
  const arena = trainingOperands(ops, sizes, M, P), t = arena.tensors;
  const { tokens, norm, rstd } = t, targets = rows(tokens, 0, M);
  const rotated = (H + K) * D, eps = model.rmsNormEps;
  const one = (name: string, bytes: number, run: () => void): GpuCase => ({
    ...{ name, bytes, flops: null, turns: 1, run },
  });
  const cases = [
    one("embeddingForward", 2 * BF16 * N * C, () => ops.embeddingForward(t.out, tokens, t.table)),
    one(
      "embeddingBackward",
      BF16 * N * C + 2 * F32 * Math.min(N, V) * C,
      () => ops.embeddingBackward(t.dTable, t.dX, tokens),
    ),
    one("rmsnormForward", 2 * BF16 * N * C, () => ops.rmsnormForward(t.out, rstd, t.x, norm, eps)),
    one(
      "rmsnormBackward",
      4 * BF16 * N * C,
      () => ops.rmsnormBackward(t.dX, t.dNorm, t.out, t.x, norm, rstd),
    ),
    one(
      "ropeForward",
      2 * BF16 * N * rotated,
      () => ops.ropeForward(t.qkv, t.rope, t.positions, H, K),
    ),
    one(
      "ropeBackward",
      2 * BF16 * N * rotated,
      () => ops.ropeBackward(t.qkv, t.rope, t.positions, H, K),
    ),
    one("swigluForward", 3 * BF16 * N * F, () => ops.swigluForward(t.half, t.gateUp)),
    one("swigluBackward", 5 * BF16 * N * F, () => ops.swigluBackward(t.gateUp, t.half, t.gateUp)),
    one(
      "crossEntropyForwardBackward",
      2 * BF16 * M * V,
      () => ops.crossEntropyForwardBackward(t.losses, t.logits, targets, 1 / M),
    ),
    one(
      "crossEntropyForward",
      BF16 * M * V,
      () => ops.crossEntropyForward(t.losses, t.logits, targets),
    ),
    one("sumOfSquares", F32 * P, () => ops.sumOfSquares(t.sum, t.grad)),
    one(
      "adamwUpdate",
      ADAMW_BYTES * P,
      () => ops.adamwUpdate(t.param, t.master, t.grad, t.m, t.v, t.clip, t.schedule, ADAMW),
    ),
    one("cast f32 to bf16", (F32 + BF16) * P, () => ops.cast(t.param, t.master)),
    one("fill", F32 * P, () => ops.fill(t.m, 0)),
  ];
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

/** The products of a block and of the head, in both directions, on all rows of a micro-batch. */
export function productCases(ops: Backend, { model, batch, length }: BenchSizes): GpuCases {
  const { hiddenSize: C, intermediateSize: F, vocabSize: V } = model, N = batch * length;
  const M = headRows(model, N), A = attentionWidth(model);
  const matrices = [
    ...[{ name: "wqkv", n: N, o: qkvWidth(model), i: C }, { name: "wo", n: N, o: C, i: A }],
    ...[{ name: "wGateUp", n: N, o: 2 * F, i: C }, { name: "wDown", n: N, o: C, i: F }],
    { name: "lmHead", n: M, o: V, i: C },
  ];
  const most = (count: (one: typeof matrices[number]) => number) =>
    Math.max(...matrices.map(count));
  const arena = ops.allocate("products of training", {
    x: bf16(most(({ n, i }) => n * i)),
    out: bf16(most(({ n, o }) => n * o)),
    weight: bf16(most(({ o, i }) => o * i)),
    dWeight: f32(most(({ o, i }) => o * i)),
  });
  const t = arena.tensors;
  [t.x, t.out, t.weight].forEach((tensor, seed) => fillRandom(ops, tensor, seed));
  const view = (tensor: Tensor, height: number, width: number) =>
    reshape(rows(tensor, 0, height * width), [height, width]);
  const cases = matrices.flatMap(({ name, n, o, i }) => {
    const x = view(t.x, n, i), out = view(t.out, n, o), weight = view(t.weight, o, i);
    const dWeight = view(t.dWeight, o, i);
    const one = (operation: string, run: () => void): GpuCase => ({
      name: `${operation} ${name}, ${n} x (${o}, ${i})`,
      ...{ bytes: null, flops: 2 * n * o * i, turns: 1, run },
    });
    return [
      one("linearForward", () => ops.linearForward(out, x, weight, null)),
      one("linearBackwardInput", () => ops.linearBackwardInput(x, out, weight)),
      one("linearBackwardWeight", () => ops.linearBackwardWeight(dWeight, out, x)),
    ];
  });
  return { cases, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}
