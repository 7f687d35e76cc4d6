// Every backward operation of the float64 reference against central differences of its forward operation.

import assert from "node:assert/strict";
import { attentionBackward, attentionForward } from "./attention.ts";
import { crossEntropyBackward, crossEntropyForward } from "./cross_entropy.ts";
import { embeddingBackward, embeddingForward } from "./embedding.ts";
import { differences, dot, relativeError, seeded } from "./finite_differences.ts";
import { linearBackwardInput, linearBackwardWeight, linearForward } from "./linear.ts";
import { sum } from "./reduce.ts";
import { rmsnormBackward, rmsnormForward } from "./rmsnorm.ts";
import { ropeBackward, ropeForward } from "./rope.ts";
import { swigluBackward, swigluForward } from "./swiglu.ts";

const LIMIT = 1e-6;

/** `gradient` must be that of f at x. */
function prove(f: (x: Float64Array) => number, x: Float64Array, gradient: Float64Array): void {
  assert.equal(gradient.length, x.length);
  const error = relativeError(gradient, differences(f, x));
  assert.ok(error < LIMIT, `relative error ${error}`);
}

Deno.test("embeddingBackward() is the gradient of embeddingForward()", () => {
  const tokens = Int32Array.of(3, 0, 3, 4, 3), table = seeded(5 * 4, 1), dOut = seeded(5 * 4, 2);
  prove(
    (x) => dot(dOut, embeddingForward(tokens, x, 4)),
    table,
    embeddingBackward(dOut, tokens, 5, 4),
  );
});

Deno.test("rmsnormBackward() is the gradient of rmsnormForward()", () => {
  const x = seeded(3 * 7, 1), weight = seeded(7, 2), dOut = seeded(3 * 7, 3), eps = 1e-5;
  const { rstd } = rmsnormForward(x, weight, eps);
  const { dX, dWeight } = rmsnormBackward(dOut, x, weight, rstd);
  prove((y) => dot(dOut, rmsnormForward(y, weight, eps).out), x, dX);
  prove((w) => dot(dOut, rmsnormForward(x, w, eps).out), weight, dWeight);
});

Deno.test("linearBackward…() are the gradients of linearForward()", () => {
  const I = 6, x = seeded(4 * I, 1), weight = seeded(5 * I, 2), addend = seeded(4 * 5, 3);
  const dOut = seeded(4 * 5, 4);
  prove(
    (y) => dot(dOut, linearForward(y, weight, I, addend)),
    x,
    linearBackwardInput(dOut, weight, I),
  );
  prove(
    (w) => dot(dOut, linearForward(x, w, I, null)),
    weight,
    linearBackwardWeight(dOut, x, I),
  );
  prove((a) => dot(dOut, linearForward(x, weight, I, a)), addend, dOut);
});

Deno.test("ropeBackward() is the gradient of ropeForward()", () => {
  const shape = { H: 3, K: 1, D: 4 }, positions = Int32Array.of(0, 5, 2);
  const table = Float64Array.from({ length: 6 * 4 }, (_, i) => {
    const angle = Math.floor(i / 4) * 0.3 ** (i % 2);
    return i % 4 < 2 ? Math.cos(angle) : Math.sin(angle);
  });
  const qkv = seeded(3 * 5 * 4, 1), dOut = seeded(3 * 5 * 4, 2);
  prove(
    (x) => dot(dOut, ropeForward(x, table, positions, shape)),
    qkv,
    ropeBackward(dOut, table, positions, shape),
  );
});

Deno.test("attentionBackward() is the gradient of attentionForward()", () => {
  for (const [H, K] of [[1, 1], [4, 2], [3, 1]]) {
    const shape = { B: 2, T: 4, H, K, D: 4 };
    const qkv = seeded(2 * 4 * (H + 2 * K) * 4, 1), dOut = seeded(2 * 4 * H * 4, 2);
    prove(
      (x) => dot(dOut, attentionForward(x, shape).out),
      qkv,
      attentionBackward(dOut, qkv, attentionForward(qkv, shape), shape),
    );
  }
});

Deno.test("swigluBackward() is the gradient of swigluForward()", () => {
  const gateUp = seeded(3 * 2 * 5, 1).map((value) => 4 * value), dOut = seeded(3 * 5, 2);
  prove((x) => dot(dOut, swigluForward(x, 5)), gateUp, swigluBackward(dOut, gateUp, 5));
});

Deno.test("crossEntropyBackward() is the gradient of scale · Σ crossEntropyForward()", () => {
  const targets = Int32Array.of(2, -1, 0), logits = seeded(3 * 6, 1).map((value) => 3 * value);
  prove(
    (x) => 0.25 * sum(crossEntropyForward(x, targets)),
    logits,
    crossEntropyBackward(logits, targets, 0.25),
  );
});
