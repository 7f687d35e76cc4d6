// Rows of a table by token, of every weight dtype, and their gradient with repeated tokens.

import type { Precision } from "../../../lib/core/backend.ts";
import { embeddingBackward, embeddingForward } from "../../reference/embedding.ts";
import { roundTo } from "../../reference/quantize.ts";
import { conformance } from "./conformance.ts";
import { ids, integers, type OpCase, opCase, output, random } from "./op_case.ts";

const FORWARD = [[1, 1, 32], [2, 3, 96], [1, 130, 288]] as const;
const V = 11;
// Many of few tokens, and a vocabulary of which most tokens are not there.
const BACKWARD = [
  ...[[1, 1, 1, V], [2, 3, 33, V], [1, 700, 65, V], [2, 1300, 3, V]],
  ...[[1, 1200, 64, V], [2, 300, 64, 900]],
] as const;

function forwardCases({ compute }: Precision): OpCase[] {
  return FORWARD.flatMap(([B, T, C]) =>
    (["f32", "bf16", "f16", "q8_0", "q4_0"] as const).map((dtype) => {
      const tokens = ids(B * T, V, 1), table = random(dtype, [V, C], 2);
      const values = embeddingForward(tokens, table.values, C);
      return opCase(
        `embeddingForward() of [${B}, ${T}] tokens from a ${dtype} table of width ${C}`,
        { out: output(compute, [B, T, C]), tokens: integers([B, T], tokens), table },
        (ops, t) => ops.embeddingForward(t.out, t.tokens, t.table),
        { out: { values: roundTo(values, compute), tolerance: 0 } },
      );
    })
  );
}

function oddWidth({ compute, param }: Precision): OpCase {
  const tokens = ids(5, V, 1), table = random(param, [V, 37], 2);
  return opCase(
    "embeddingForward() of an odd width",
    { out: output(compute, [5, 37]), tokens: integers([5], tokens), table },
    (ops, t) => ops.embeddingForward(t.out, t.tokens, t.table),
    { out: { values: embeddingForward(tokens, table.values, 37), tolerance: 0 } },
  );
}

function backwardCases({ compute, grad }: Precision): OpCase[] {
  return BACKWARD.map(([B, T, C, V]) => {
    const tokens = ids(B * T, V, 3);
    const dOut = random(compute, [B, T, C], 4), dTable = random(grad, [V, C], 5);
    const added = embeddingBackward(dOut.values, tokens, V, C);
    return opCase(
      `embeddingBackward() of [${B}, ${T}] tokens of ${V} and width ${C} accumulates`,
      { dTable, dOut, tokens: integers([B, T], tokens) },
      (ops, t) => ops.embeddingBackward(t.dTable, t.dOut, t.tokens),
      { dTable: { values: dTable.values.map((value, i) => value + added[i]) } },
    );
  });
}

conformance("embedding", (precision) => [
  ...forwardCases(precision),
  oddWidth(precision),
  ...backwardCases(precision),
]);
