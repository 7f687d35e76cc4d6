// The contract of ops.ts on dtypes and shapes, checked once for all backends before anything is enqueued. Row-wise
// operations take any shape whose element count is whole rows. Values (ids, positions) are not looked at.

import type { Precision } from "./backend.ts";
import { isQuantized, QUANT_BLOCK } from "./dtype.ts";
import {
  checkRank,
  countOf,
  floatCount,
  stackedCount,
  weightCount,
  wrongDType,
  wrongShape,
} from "./operand.ts";
import type { Ops } from "./ops.ts";
import { rowWidth, type Tensor } from "./tensor.ts";

/**
 * The same operations, each throwing a `RangeError` (shape) or `TypeError` (dtype) that names operation, operand and
 * tensor before the backend is called.
 */
export function checkedOps(ops: Ops, precision: Precision): Ops {
  return {
    ...checkedEmbedding(ops, precision),
    ...checkedRmsnorm(ops, precision),
    ...checkedLinear(ops, precision),
    ...checkedRope(ops, precision),
    ...checkedAttention(ops, precision),
    ...checkedKvCache(ops, precision),
    ...checkedSwiglu(ops, precision),
    ...checkedCrossEntropy(ops, precision),
    ...checkedReduce(ops, precision),
    ...checkedAdamw(ops, precision),
    ...checkedSampling(ops),
    ...checkedQuantize(ops),
  };
}

function checkedEmbedding(ops: Ops, { compute, grad }: Precision) {
  return {
    embeddingForward(out, tokens, table) {
      const op = "embeddingForward";
      const n = countOf(op, "tokens", tokens, "i32"), c = rowWidth(table);
      weightCount(op, "table", table);
      if (countOf(op, "out", out, compute) !== n * c) wrongShape(op, "out", out, [n, c]);
      ops.embeddingForward(out, tokens, table);
    },
    embeddingBackward(dTable, dOut, tokens) {
      const op = "embeddingBackward";
      const n = countOf(op, "tokens", tokens, "i32"), c = rowWidth(dTable);
      countOf(op, "dTable", dTable, grad);
      if (countOf(op, "dOut", dOut, compute) !== n * c) wrongShape(op, "dOut", dOut, [n, c]);
      ops.embeddingBackward(dTable, dOut, tokens);
    },
  } satisfies Partial<Ops>;
}

function checkedRmsnorm(ops: Ops, { param, compute, grad }: Precision) {
  return {
    rmsnormForward(out, rstd, x, weight, eps) {
      const op = "rmsnormForward";
      const c = countOf(op, "weight", weight, param), size = countOf(op, "x", x, compute);
      if (size % c !== 0) wrongShape(op, "weight", weight, [rowWidth(x)]);
      const n = size / c;
      if (countOf(op, "out", out, compute) !== size) wrongShape(op, "out", out, [n, c]);
      if (rstd !== null && countOf(op, "rstd", rstd, "f32") !== n) {
        wrongShape(op, "rstd", rstd, [n]);
      }
      ops.rmsnormForward(out, rstd, x, weight, eps);
    },
    rmsnormBackward(dX, dWeight, dOut, x, weight, rstd) {
      const op = "rmsnormBackward";
      const c = countOf(op, "weight", weight, param), size = countOf(op, "x", x, compute);
      if (size % c !== 0) wrongShape(op, "weight", weight, [rowWidth(x)]);
      const n = size / c;
      if (countOf(op, "dX", dX, compute) !== size) wrongShape(op, "dX", dX, [n, c]);
      if (countOf(op, "dWeight", dWeight, grad) !== c) wrongShape(op, "dWeight", dWeight, [c]);
      if (countOf(op, "dOut", dOut, compute) !== size) wrongShape(op, "dOut", dOut, [n, c]);
      if (countOf(op, "rstd", rstd, "f32") !== n) wrongShape(op, "rstd", rstd, [n]);
      ops.rmsnormBackward(dX, dWeight, dOut, x, weight, rstd);
    },
  } satisfies Partial<Ops>;
}

/** Throws for a matrix that does not fit its rows: blames the matrix when no reading of `x` has its width. */
function wrongProduct(op: string, role: string, matrix: Tensor, x: Tensor, out: Tensor): never {
  const i = rowWidth(matrix);
  let width = 1;
  for (let axis = x.shape.length - 1; axis >= 0 && width < i; axis--) width *= x.shape[axis];
  if (width !== i) wrongShape(op, role, matrix, ["*", rowWidth(x)]);
  const size = x.shape.reduce((product, extent) => product * extent, 1);
  const o = matrix.shape.slice(0, -1).reduce((product, extent) => product * extent, 1);
  return wrongShape(op, outRole(op), out, [size / i, o]);
}

function outRole(op: string): string {
  return op === "linearForward" ? "out" : "dOut";
}

function checkedLinear(ops: Ops, { param, compute, grad }: Precision) {
  return {
    linearForward(out, x, weight, addend) {
      const op = "linearForward";
      const i = rowWidth(weight), o = stackedCount(op, "weight", weight) / i;
      const n = countOf(op, "x", x, compute) / i;
      if (countOf(op, "out", out, compute) !== n * o) wrongProduct(op, "weight", weight, x, out);
      if (addend !== null && countOf(op, "addend", addend, compute) !== n * o) {
        wrongShape(op, "addend", addend, [n, o]);
      }
      if (!Number.isInteger(n)) wrongProduct(op, "weight", weight, x, out);
      ops.linearForward(out, x, weight, addend);
    },
    linearBackwardInput(dX, dOut, weight) {
      const op = "linearBackwardInput";
      const i = rowWidth(weight), o = countOf(op, "weight", weight, param) / i;
      const n = countOf(op, "dX", dX, compute) / i;
      const size = countOf(op, "dOut", dOut, compute);
      if (size !== n * o || !Number.isInteger(n)) wrongProduct(op, "weight", weight, dX, dOut);
      ops.linearBackwardInput(dX, dOut, weight);
    },
    linearBackwardWeight(dWeight, dOut, x) {
      const op = "linearBackwardWeight";
      const i = rowWidth(dWeight), o = countOf(op, "dWeight", dWeight, grad) / i;
      const n = countOf(op, "x", x, compute) / i;
      const size = countOf(op, "dOut", dOut, compute);
      if (size !== n * o || !Number.isInteger(n)) wrongProduct(op, "dWeight", dWeight, x, dOut);
      ops.linearBackwardWeight(dWeight, dOut, x);
    },
  } satisfies Partial<Ops>;
}

function checkedRope(ops: Ops, { compute }: Precision) {
  const check = (
    op: string,
    qkv: Tensor,
    table: Tensor,
    positions: Tensor,
    heads: number,
  ) => {
    const n = countOf(op, "positions", positions, "i32"), d = rowWidth(table);
    countOf(op, "table", table, "f32");
    if (d % 2 !== 0) wrongShape(op, "table", table, ["*", "even"]);
    if (countOf(op, "qkv", qkv, compute) !== n * heads * d) {
      wrongShape(op, "qkv", qkv, [n, heads, d]);
    }
  };
  return {
    ropeForward(qkv, table, positions, numHeads, numKvHeads) {
      check("ropeForward", qkv, table, positions, numHeads + 2 * numKvHeads);
      ops.ropeForward(qkv, table, positions, numHeads, numKvHeads);
    },
    ropeBackward(dQkv, table, positions, numHeads, numKvHeads) {
      check("ropeBackward", dQkv, table, positions, numHeads + 2 * numKvHeads);
      ops.ropeBackward(dQkv, table, positions, numHeads, numKvHeads);
    },
  } satisfies Partial<Ops>;
}

/** qkv (B, T, H+2K, D) against out (B, T, H, D), with H a multiple of K. */
function checkHeads(op: string, out: Tensor, qkv: Tensor, keyHeads: number): void {
  checkRank(op, "out", out, 4);
  checkRank(op, "qkv", qkv, 4);
  const [b, t, h, d] = out.shape, shape = qkv.shape;
  const isWhole = Number.isInteger(keyHeads) && keyHeads > 0 && h % keyHeads === 0;
  const isFitting = shape[0] === b && shape[1] === t && shape[3] === d;
  if (!isWhole || !isFitting || shape[2] !== h + 2 * keyHeads) {
    wrongShape(op, "qkv", qkv, [b, t, isWhole ? h + 2 * keyHeads : `${h} + 2 K`, d]);
  }
}

function checkedAttention(ops: Ops, { compute }: Precision) {
  return {
    attentionForward(out, lse, qkv) {
      const op = "attentionForward";
      countOf(op, "out", out, compute);
      countOf(op, "qkv", qkv, compute);
      checkHeads(op, out, qkv, (qkv.shape[2] - out.shape[2]) / 2);
      const [b, t, h] = out.shape;
      if (lse !== null && countOf(op, "lse", lse, "f32") !== b * t * h) {
        wrongShape(op, "lse", lse, [b, h, t]);
      }
      ops.attentionForward(out, lse, qkv);
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const op = "attentionBackward";
      const size = countOf(op, "qkv", qkv, compute), outSize = countOf(op, "out", out, compute);
      checkHeads(op, out, qkv, (qkv.shape[2] - out.shape[2]) / 2);
      if (countOf(op, "dQkv", dQkv, compute) !== size) wrongShape(op, "dQkv", dQkv, qkv.shape);
      if (countOf(op, "dOut", dOut, compute) !== outSize) wrongShape(op, "dOut", dOut, out.shape);
      const [b, t, h] = out.shape;
      if (countOf(op, "lse", lse, "f32") !== b * t * h) wrongShape(op, "lse", lse, [b, h, t]);
      ops.attentionBackward(dQkv, dOut, qkv, out, lse);
    },
    attentionCached(out, qkv, keys, values, positions) {
      const op = "attentionCached";
      countOf(op, "out", out, compute);
      checkCache(op, keys, values, qkv, positions, compute);
      checkHeads(op, out, qkv, keys.shape[1]);
      ops.attentionCached(out, qkv, keys, values, positions);
    },
  } satisfies Partial<Ops>;
}

/** keys and values (B, K, S, D), qkv (B, T, H+2K, D), positions (B, T). */
function checkCache(
  op: string,
  keys: Tensor,
  values: Tensor,
  qkv: Tensor,
  positions: Tensor,
  compute: Precision["compute"],
): void {
  const size = countOf(op, "keys", keys, compute);
  countOf(op, "qkv", qkv, compute);
  checkRank(op, "keys", keys, 4);
  checkRank(op, "qkv", qkv, 4);
  const [b, t, heads, d] = qkv.shape, [keyBatch, k, , keyWidth] = keys.shape;
  if (keyBatch !== b || keyWidth !== d) wrongShape(op, "keys", keys, [b, "*", "*", d]);
  if (heads <= 2 * k) wrongShape(op, "qkv", qkv, [b, t, `more than ${2 * k}`, d]);
  if (countOf(op, "values", values, compute) !== size) {
    wrongShape(op, "values", values, keys.shape);
  }
  if (countOf(op, "positions", positions, "i32") !== b * t) {
    wrongShape(op, "positions", positions, [b, t]);
  }
}

function checkedKvCache(ops: Ops, { compute }: Precision) {
  return {
    kvCacheAppend(keys, values, qkv, positions) {
      checkCache("kvCacheAppend", keys, values, qkv, positions, compute);
      ops.kvCacheAppend(keys, values, qkv, positions);
    },
  } satisfies Partial<Ops>;
}

function checkedSwiglu(ops: Ops, { compute }: Precision) {
  const check = (op: string, role: string, half: Tensor, gateUp: Tensor) => {
    const size = countOf(op, "gateUp", gateUp, compute), width = rowWidth(gateUp);
    if (width % 2 !== 0) wrongShape(op, "gateUp", gateUp, ["*", "even"]);
    if (2 * countOf(op, role, half, compute) !== size) {
      wrongShape(op, role, half, [size / width, width / 2]);
    }
  };
  return {
    swigluForward(out, gateUp) {
      check("swigluForward", "out", out, gateUp);
      ops.swigluForward(out, gateUp);
    },
    swigluBackward(dGateUp, dOut, gateUp) {
      const op = "swigluBackward";
      check(op, "dOut", dOut, gateUp);
      if (countOf(op, "dGateUp", dGateUp, compute) !== 2 * countOf(op, "dOut", dOut, compute)) {
        wrongShape(op, "dGateUp", dGateUp, gateUp.shape);
      }
      ops.swigluBackward(dGateUp, dOut, gateUp);
    },
  } satisfies Partial<Ops>;
}

function checkedCrossEntropy(ops: Ops, { compute }: Precision) {
  const check = (op: string, losses: Tensor, logits: Tensor, targets: Tensor) => {
    const n = countOf(op, "targets", targets, "i32"), v = rowWidth(logits);
    if (countOf(op, "logits", logits, compute) !== n * v) wrongShape(op, "logits", logits, [n, v]);
    if (countOf(op, "losses", losses, "f32") !== n) wrongShape(op, "losses", losses, [n]);
  };
  return {
    crossEntropyForward(losses, logits, targets) {
      check("crossEntropyForward", losses, logits, targets);
      ops.crossEntropyForward(losses, logits, targets);
    },
    crossEntropyForwardBackward(losses, logits, targets, scale) {
      check("crossEntropyForwardBackward", losses, logits, targets);
      ops.crossEntropyForwardBackward(losses, logits, targets, scale);
    },
  } satisfies Partial<Ops>;
}

function checkedReduce(ops: Ops, { grad }: Precision) {
  return {
    sum(out, x) {
      countOf("sum", "x", x, "f32");
      if (countOf("sum", "out", out, "f32") !== 1) wrongShape("sum", "out", out, [1]);
      ops.sum(out, x);
    },
    sumOfSquares(out, x) {
      const op = "sumOfSquares";
      countOf(op, "x", x, grad);
      if (countOf(op, "out", out, "f32") !== 1) wrongShape(op, "out", out, [1]);
      ops.sumOfSquares(out, x);
    },
    clipScale(out, squares, loss, maxNorm) {
      const op = "clipScale";
      countOf(op, "squares", squares, "f32");
      if (countOf(op, "out", out, "f32") !== 2) wrongShape(op, "out", out, [2]);
      if (countOf(op, "loss", loss, "f32") !== 1) wrongShape(op, "loss", loss, [1]);
      ops.clipScale(out, squares, loss, maxNorm);
    },
  } satisfies Partial<Ops>;
}

function checkedAdamw(ops: Ops, precision: Precision) {
  return {
    adamwUpdate(param, master, grad, m, v, clip, schedule, options) {
      const op = "adamwUpdate";
      const size = countOf(op, "param", param, precision.param);
      if (precision.master === null) {
        if (master !== null) {
          throw new TypeError(`${op}: master "${master.name}" must be null here`);
        }
      } else if (master === null) {
        throw new TypeError(`${op}: param "${param.name}" needs a master copy here`);
      } else if (countOf(op, "master", master, precision.master) !== size) {
        wrongShape(op, "master", master, param.shape);
      }
      if (countOf(op, "grad", grad, precision.grad) !== size) {
        wrongShape(op, "grad", grad, param.shape);
      }
      if (countOf(op, "m", m, "f32") !== size) wrongShape(op, "m", m, param.shape);
      if (countOf(op, "v", v, "f32") !== size) wrongShape(op, "v", v, param.shape);
      if (countOf(op, "clip", clip, "f32") !== 2) wrongShape(op, "clip", clip, [2]);
      if (countOf(op, "schedule", schedule, "f32") !== 2) wrongShape(op, "schedule", schedule, [2]);
      ops.adamwUpdate(param, master, grad, m, v, clip, schedule, options);
    },
  } satisfies Partial<Ops>;
}

function checkedSampling(ops: Ops) {
  return {
    sampleToken(tokens, positions, logProbs, logits, seen, rng, options) {
      const op = "sampleToken";
      checkRank(op, "logits", logits, 2);
      const size = countOf(op, "logits", logits, "f32"), b = logits.shape[0];
      if (countOf(op, "tokens", tokens, "i32") !== b) wrongShape(op, "tokens", tokens, [b]);
      if (countOf(op, "positions", positions, "i32") !== b) {
        wrongShape(op, "positions", positions, [b]);
      }
      if (countOf(op, "logProbs", logProbs, "f32") !== b) wrongShape(op, "logProbs", logProbs, [b]);
      if (seen !== null && countOf(op, "seen", seen, "i32") !== size) {
        wrongShape(op, "seen", seen, logits.shape);
      }
      if (countOf(op, "rng", rng, "i32") !== 3 * b) wrongShape(op, "rng", rng, [b, 3]);
      ops.sampleToken(tokens, positions, logProbs, logits, seen, rng, options);
    },
  } satisfies Partial<Ops>;
}

function checkedQuantize(ops: Ops) {
  return {
    cast(dst, src) {
      const size = floatCount("cast", "dst", dst);
      if (weightCount("cast", "src", src) !== size) wrongShape("cast", "src", src, dst.shape);
      ops.cast(dst, src);
    },
    quantize(dst, src) {
      const op = "quantize";
      if (!isQuantized(dst.dtype)) wrongDType(op, "dst", dst, "q8_0 or q4_0");
      const size = weightCount(op, "dst", dst);
      if (rowWidth(dst) % QUANT_BLOCK !== 0) {
        wrongShape(op, "dst", dst, ["*", `a multiple of ${QUANT_BLOCK}`]);
      }
      const isSame = floatCount(op, "src", src) === size && rowWidth(src) === rowWidth(dst);
      if (!isSame) wrongShape(op, "src", src, dst.shape);
      ops.quantize(dst, src);
    },
  } satisfies Partial<Ops>;
}
