// Losses and their gradient in place: ignored rows, wide vocabularies, large logits.

import type { Precision } from "../../../lib/core/backend.ts";
import { crossEntropyBackward, crossEntropyForward } from "../../reference/cross_entropy.ts";
import { conformance } from "./conformance.ts";
import { ids, integers, type OpCase, opCase, output, random, real } from "./op_case.ts";

// Rows, vocabulary, magnitude of the logits.
const SHAPES = [[1, 1, 1], [1, 33, 3], [5, 257, 3], [2, 32000, 10], [130, 50, 3], [4, 70, 1e4]];
const SCALE = 1 / 48;

function cases({ compute }: Precision, shape: readonly number[], ignored: boolean): OpCase[] {
  const [N, V, magnitude] = shape;
  const unit = random(compute, [N, V], 1);
  const logits = real(compute, [N, V], unit.values.map((value) => value * magnitude));
  const labels = ids(N, V, 2).map((id, n) => ignored && n % 3 === 0 ? -1 : id);
  const targets = integers([N], labels);
  const losses = { values: crossEntropyForward(logits.values, labels) };
  const name = `[${N}, ${V}] up to ±${magnitude}${ignored ? " with ignored rows" : ""}`;
  return [
    opCase(
      `crossEntropyForward() of ${name}`,
      { losses: output("f32", [N]), logits, targets },
      (ops, t) => ops.crossEntropyForward(t.losses, t.logits, t.targets),
      { losses },
    ),
    opCase(
      `crossEntropyForwardBackward() of ${name}`,
      { losses: output("f32", [N]), logits, targets },
      (ops, t) => ops.crossEntropyForwardBackward(t.losses, t.logits, t.targets, SCALE),
      { losses, logits: { values: crossEntropyBackward(logits.values, labels, SCALE) } },
    ),
  ];
}

conformance("cross_entropy", (precision) => [
  ...SHAPES.flatMap((shape) => cases(precision, shape, false)),
  ...cases(precision, [5, 257, 3], true),
]);
