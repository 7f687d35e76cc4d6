// The suite itself: a case must fail when an operation is wrong, touches what it must not, or depends on the threads.

import assert from "node:assert/strict";
import { openBackend } from "../../../lib/backend/open.ts";
import type { Backend } from "../../../lib/core/backend.ts";
import type { Tensor } from "../../../lib/core/tensor.ts";
import { opCase, output, random } from "./op_case.ts";

type Enqueue = (ops: Backend, t: { readonly out: Tensor; readonly x: Tensor }) => void;

/** A case whose operation must set `out` (5) to 2 and leave `x` alone. */
async function check(enqueue: Enqueue): Promise<void> {
  const open = () => openBackend({ device: "cpu:wasm", threads: 1, matmul: "f32" });
  using first = await open();
  using second = await open();
  const tensors = { out: output("f32", [5]), x: random("f32", [3], 1) };
  const expected = { out: { values: new Float64Array(5).fill(2) } };
  await opCase("case", tensors, enqueue, expected).check([first, second]);
}

Deno.test("a case passes what is right and names what is wrong", async () => {
  await check((ops, t) => ops.fill(t.out, 2));
  const wrong: readonly (readonly [Enqueue, RegExp])[] = [
    [() => {}, /case: out: relative error NaN/],
    [(ops, t) => ops.fill({ ...t.out, shape: [4] }, 2), /case: out: relative error NaN/],
    [(ops, t) => ops.fill(t.out, 2.00001), /case: out: relative error 0.000005/],
    [(ops, t) => ops.fill({ ...t.out, shape: [6] }, 2), /out: bytes beyond the tensor/],
    [(ops, t) => {
      ops.fill(t.out, 2);
      ops.fill(t.x, 0);
    }, /case: x was changed/],
  ];
  for (const [enqueue, message] of wrong) await assert.rejects(() => check(enqueue), message);
  let value = 2;
  await assert.rejects(
    () => check((ops, t) => ops.fill(t.out, value += 2 ** -22)),
    /case: out depends on cpu:wasm/,
  );
});
