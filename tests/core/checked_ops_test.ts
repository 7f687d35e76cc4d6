// What every operation refuses, once for all backends: each operand with another dtype and another shape, by name.

import assert from "node:assert/strict";
import { footprintOf } from "../../lib/backend/footprint.ts";
import type { Backend, Precision } from "../../lib/core/backend.ts";
import { checkedOps } from "../../lib/core/checked_ops.ts";
import type { DType } from "../../lib/core/dtype.ts";
import type { Ops } from "../../lib/core/ops.ts";
import { stackRows, type Tensor } from "../../lib/core/tensor.ts";
import { countingBackend } from "../../lib/train/counting_backend.ts";

const F32: Precision = { param: "f32", compute: "f32", grad: "f32", master: null, matmul: "f32" };
const MIXED: Precision = { ...F32, param: "bf16", compute: "bf16", master: "f32" };
const ADAMW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

type Spec = readonly [dtype: DType, ...shape: number[]];
type Specs = Readonly<Record<string, Spec>>;

/** An operation and operands it accepts. `call` gets them in the order of `operands`. */
interface Signature {
  readonly op: string;
  readonly operands: Specs;
  readonly call: (ops: Ops, t: readonly Tensor[]) => void;
}

// B 2, T 3, C 32, H 4, K 2, D 8, F 5, V 7, S 9, O 10.
const SIGNATURES: readonly Signature[] = [
  {
    op: "embeddingForward",
    operands: { out: ["f32", 2, 3, 32], tokens: ["i32", 2, 3], table: ["q8_0", 7, 32] },
    call: (ops, [out, tokens, table]) => ops.embeddingForward(out, tokens, table),
  },
  {
    op: "embeddingBackward",
    operands: { dTable: ["f32", 7, 32], dOut: ["f32", 2, 3, 32], tokens: ["i32", 2, 3] },
    call: (ops, [dTable, dOut, tokens]) => ops.embeddingBackward(dTable, dOut, tokens),
  },
  {
    op: "rmsnormForward",
    operands: { out: ["f32", 6, 32], rstd: ["f32", 6], x: ["f32", 6, 32], weight: ["f32", 32] },
    call: (ops, [out, rstd, x, weight]) => ops.rmsnormForward(out, rstd, x, weight, 1e-5),
  },
  {
    op: "rmsnormBackward",
    operands: {
      dX: ["f32", 6, 32],
      dWeight: ["f32", 32],
      dOut: ["f32", 6, 32],
      x: ["f32", 6, 32],
      weight: ["f32", 32],
      rstd: ["f32", 6],
    },
    call: (ops, [dX, dWeight, dOut, x, weight, rstd]) =>
      ops.rmsnormBackward(dX, dWeight, dOut, x, weight, rstd),
  },
  {
    op: "linearForward",
    operands: {
      out: ["f32", 6, 10],
      x: ["f32", 6, 32],
      weight: ["q4_0", 10, 32],
      addend: ["f32", 6, 10],
    },
    call: (ops, [out, x, weight, addend]) => ops.linearForward(out, x, weight, addend),
  },
  {
    op: "linearBackwardInput",
    operands: { dX: ["f32", 6, 32], dOut: ["f32", 6, 10], weight: ["f32", 10, 32] },
    call: (ops, [dX, dOut, weight]) => ops.linearBackwardInput(dX, dOut, weight),
  },
  {
    op: "linearBackwardWeight",
    operands: { dWeight: ["f32", 10, 32], dOut: ["f32", 6, 10], x: ["f32", 6, 32] },
    call: (ops, [dWeight, dOut, x]) => ops.linearBackwardWeight(dWeight, dOut, x),
  },
  {
    op: "ropeForward",
    operands: { qkv: ["f32", 2, 3, 8, 8], table: ["f32", 9, 8], positions: ["i32", 2, 3] },
    call: (ops, [qkv, table, positions]) => ops.ropeForward(qkv, table, positions, 4, 2),
  },
  {
    op: "ropeBackward",
    operands: { qkv: ["f32", 2, 3, 8, 8], table: ["f32", 9, 8], positions: ["i32", 2, 3] },
    call: (ops, [qkv, table, positions]) => ops.ropeBackward(qkv, table, positions, 4, 2),
  },
  {
    op: "attentionForward",
    operands: { out: ["f32", 2, 3, 4, 8], lse: ["f32", 2, 4, 3], qkv: ["f32", 2, 3, 8, 8] },
    call: (ops, [out, lse, qkv]) => ops.attentionForward(out, lse, qkv),
  },
  {
    op: "attentionBackward",
    operands: {
      dQkv: ["f32", 2, 3, 8, 8],
      dOut: ["f32", 2, 3, 4, 8],
      qkv: ["f32", 2, 3, 8, 8],
      out: ["f32", 2, 3, 4, 8],
      lse: ["f32", 2, 4, 3],
    },
    call: (ops, [dQkv, dOut, qkv, out, lse]) => ops.attentionBackward(dQkv, dOut, qkv, out, lse),
  },
  {
    op: "kvCacheAppend",
    operands: {
      keys: ["f32", 2, 2, 9, 8],
      values: ["f32", 2, 2, 9, 8],
      qkv: ["f32", 2, 3, 8, 8],
      positions: ["i32", 2, 3],
    },
    call: (ops, [keys, values, qkv, positions]) => ops.kvCacheAppend(keys, values, qkv, positions),
  },
  {
    op: "attentionCached",
    operands: {
      out: ["f32", 2, 3, 4, 8],
      qkv: ["f32", 2, 3, 8, 8],
      keys: ["f32", 2, 2, 9, 8],
      values: ["f32", 2, 2, 9, 8],
      positions: ["i32", 2, 3],
    },
    call: (ops, [out, qkv, keys, values, positions]) =>
      ops.attentionCached(out, qkv, keys, values, positions),
  },
  {
    op: "swigluForward",
    operands: { out: ["f32", 6, 5], gateUp: ["f32", 6, 10] },
    call: (ops, [out, gateUp]) => ops.swigluForward(out, gateUp),
  },
  {
    op: "swigluBackward",
    operands: { dGateUp: ["f32", 6, 10], dOut: ["f32", 6, 5], gateUp: ["f32", 6, 10] },
    call: (ops, [dGateUp, dOut, gateUp]) => ops.swigluBackward(dGateUp, dOut, gateUp),
  },
  {
    op: "crossEntropyForward",
    operands: { losses: ["f32", 6], logits: ["f32", 6, 7], targets: ["i32", 6] },
    call: (ops, [losses, logits, targets]) => ops.crossEntropyForward(losses, logits, targets),
  },
  {
    op: "crossEntropyForwardBackward",
    operands: { losses: ["f32", 6], logits: ["f32", 6, 7], targets: ["i32", 6] },
    call: (ops, [losses, logits, targets]) =>
      ops.crossEntropyForwardBackward(losses, logits, targets, 1),
  },
  {
    op: "sum",
    operands: { out: ["f32", 1], x: ["f32", 6] },
    call: (ops, [out, x]) => ops.sum(out, x),
  },
  {
    op: "sumOfSquares",
    operands: { out: ["f32", 1], x: ["f32", 6] },
    call: (ops, [out, x]) => ops.sumOfSquares(out, x),
  },
  {
    op: "clipScale",
    operands: { out: ["f32", 2], squares: ["f32", 6], loss: ["f32", 1] },
    call: (ops, [out, squares, loss]) => ops.clipScale(out, squares, loss, 1),
  },
  {
    op: "adamwUpdate",
    operands: {
      param: ["f32", 6],
      grad: ["f32", 6],
      m: ["f32", 6],
      v: ["f32", 6],
      clip: ["f32", 2],
      schedule: ["f32", 2],
    },
    call: (ops, [param, grad, m, v, clip, schedule]) =>
      ops.adamwUpdate(param, null, grad, m, v, clip, schedule, ADAMW),
  },
  {
    op: "sampleToken",
    operands: {
      tokens: ["i32", 2],
      positions: ["i32", 2],
      logProbs: ["f32", 2],
      logits: ["f32", 2, 7],
      seen: ["i32", 2, 7],
      rng: ["i32", 2, 3],
    },
    call: (ops, [tokens, positions, logProbs, logits, seen, rng]) =>
      ops.sampleToken(tokens, positions, logProbs, logits, seen, rng, GREEDY),
  },
  {
    op: "cast",
    operands: { dst: ["bf16", 2, 32], src: ["q8_0", 2, 32] },
    call: (ops, [dst, src]) => ops.cast(dst, src),
  },
  {
    op: "quantize",
    operands: { dst: ["q8_0", 2, 32], src: ["bf16", 2, 32] },
    call: (ops, [dst, src]) => ops.quantize(dst, src),
  },
];

/** Operands that any extent fits: what the operation reduces over or walks along. */
const FREE = new Set(["sum x", "sumOfSquares x", "clipScale squares"]);
/** Operands that bring their width along; these get another number of rows instead. */
const FREE_WIDTH = new Set(["crossEntropyForward logits", "crossEntropyForwardBackward logits"]);

function tensor(name: string, [dtype, ...shape]: Spec): Tensor {
  return { name: `a.${name}`, dtype, shape, buffer: { byteLength: 0 }, byteOffset: 0, parts: null };
}

function tensors(specs: Specs): Tensor[] {
  return Object.entries(specs).map(([name, spec]) => tensor(name, spec));
}

/** Checks in front of operations that are told apart from a refusal by their message. */
function checked(precision: Precision): Ops {
  const reached = new Proxy(countingBackend(footprintOf("cpu", "f32")), {
    get: (_backend: Backend, op) => () => {
      throw new Error(`${String(op)} reached the backend`);
    },
  });
  return checkedOps(reached, precision);
}

const ops = checked(F32);

for (const { op, operands, call } of SIGNATURES) {
  Deno.test(`${op}() refuses every operand of another dtype or shape`, () => {
    const names = Object.keys(operands);
    const reaches = { message: `${op} reached the backend` };
    assert.throws(() => call(ops, tensors(operands)), reaches);
    for (const name of names) {
      const [dtype, ...shape] = operands[name];
      const label = `${op} ${name}`;
      const wrongType = { ...operands, [name]: ["u8", ...shape] as const };
      assert.throws(() => call(ops, tensors(wrongType)), {
        name: "TypeError",
        message: new RegExp(`^${op}: \\w+ "a.${name}" is u8, expected `),
      }, label);
      if (FREE.has(label)) continue;
      const axis = FREE_WIDTH.has(label) ? 0 : shape.length - 1;
      const wider = shape.with(axis, shape[axis] + 32);
      const wrongShape = { ...operands, [name]: [dtype, ...wider] as const };
      assert.throws(() => call(ops, tensors(wrongShape)), {
        name: "RangeError",
        message: new RegExp(`^${op}: \\w+ "a\\.\\w+" has shape \\[.+\\], expected \\[.+\\]$`),
      }, label);
      const stacked = tensors(operands);
      const at = names.indexOf(name);
      stacked[at] = stackRows(`a.${name}`, [stacked[at]]);
      const isAllowed = label === "linearForward weight";
      assert.throws(
        () => call(ops, stacked),
        isAllowed ? reaches : /is stacked; only the weight of linearForward may be$/,
        label,
      );
    }
  });
}

function refuses(run: (ops: Ops, t: readonly Tensor[]) => void, specs: Specs, message: string) {
  assert.throws(() => run(ops, tensors(specs)), { message });
}

Deno.test("messages name operation, operand, tensor, what was found and what was expected", () => {
  refuses(
    (o, [out, x, weight]) => o.linearForward(out, x, weight, null),
    { out: ["f32", 6, 10], x: ["f32", 6, 31], weight: ["f32", 10, 32] },
    'linearForward: weight "a.weight" has shape [10, 32], expected [*, 31]',
  );
  refuses(
    (o, [out, x, weight]) => o.linearForward(out, x, weight, null),
    { out: ["f32", 6, 11], x: ["f32", 6, 32], weight: ["f32", 10, 32] },
    'linearForward: out "a.out" has shape [6, 11], expected [6, 10]',
  );
  refuses(
    (o, [dX, dOut, weight]) => o.linearBackwardInput(dX, dOut, weight),
    { dX: ["f32", 6, 32], dOut: ["f32", 6, 10], weight: ["bf16", 10, 32] },
    'linearBackwardInput: weight "a.weight" is bf16, expected f32',
  );
  refuses(
    (o, [out, qkv]) => o.attentionForward(out, null, qkv),
    { out: ["f32", 2, 3, 4, 8], qkv: ["f32", 2, 3, 10, 8] },
    'attentionForward: qkv "a.qkv" has shape [2, 3, 10, 8], expected [2, 3, 4 + 2 K, 8]',
  );
  refuses(
    (o, [qkv, table, positions]) => o.ropeForward(qkv, table, positions, 4, 2),
    { qkv: ["f32", 2, 3, 8, 7], table: ["f32", 9, 7], positions: ["i32", 2, 3] },
    'ropeForward: table "a.table" has shape [9, 7], expected [*, even]',
  );
  refuses(
    (o, [dst, src]) => o.quantize(dst, src),
    { dst: ["q8_0", 4, 48], src: ["f32", 4, 48] },
    'quantize: dst "a.dst" has shape [4, 48], expected [*, a multiple of 32]',
  );
  refuses(
    (o, [dst, src]) => o.cast(dst, src),
    { dst: ["q8_0", 2, 32], src: ["f32", 2, 32] },
    'cast: dst "a.dst" is q8_0, expected f32, bf16 or f16',
  );
});

Deno.test("optional operands may be null, and a tensor is counted in 31 bits", () => {
  const t = (name: string, ...spec: Spec) => tensor(name, spec);
  assert.throws(
    () => ops.rmsnormForward(t("o", "f32", 6, 4), null, t("x", "f32", 6, 4), t("w", "f32", 4), 0),
    /rmsnormForward reached/,
  );
  assert.throws(
    () => ops.sum(t("out", "f32", 1), t("x", "f32", 2 ** 16, 2 ** 15)),
    /^RangeError: sum: x "a.x" has 2147483648 elements, at most 2147483647 are possible$/,
  );
});

Deno.test("a master copy is required where the precision has one, and refused elsewhere", () => {
  const mixed = checked(MIXED);
  const [f32, clip] = tensors({ x: ["f32", 6], clip: ["f32", 2] });
  const [bf16, short] = tensors({ param: ["bf16", 6], master: ["f32", 5] });
  const update = (o: Ops, param: Tensor, master: Tensor | null) =>
    o.adamwUpdate(param, master, f32, f32, f32, clip, clip, ADAMW);
  assert.throws(() => update(mixed, bf16, f32), /adamwUpdate reached/);
  assert.throws(() => update(mixed, bf16, null), /param "a.param" needs a master copy here/);
  assert.throws(
    () => update(mixed, bf16, short),
    /master "a.master" has shape \[5\], expected \[6\]/,
  );
  assert.throws(() => update(ops, f32, f32), /master "a.x" must be null here/);
});
