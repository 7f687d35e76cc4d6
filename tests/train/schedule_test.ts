// The learning rate against the fixtures' list and against the paper's numbers.

import assert from "node:assert/strict";
import { learningRate } from "../../lib/train/schedule.ts";

const PAPER = { lr: 4e-4, minLr: 4e-5, warmupSteps: 2000, totalSteps: 1430512 };

Deno.test("ten golden steps", () => {
  const schedule = { lr: 4e-3, minLr: 4e-4, warmupSteps: 3, totalSteps: 10 };
  const expected = [
    0.0013333333333333333,
    0.0026666666666666666,
    0.004,
    0.0038217439622243543,
    0.0033222816433457207,
    0.002600537681121366,
    0.0017994623188786342,
    0.0010777183566542798,
    0.0005782560377756458,
    0.0004,
  ];
  for (const [index, lr] of expected.entries()) {
    const actual = learningRate(schedule, index + 1);
    assert.ok(Math.abs(actual / lr - 1) < 1e-14, `step ${index + 1}: ${actual}, expected ${lr}`);
  }
});

Deno.test("the paper's run: start, peak, middle, end", () => {
  assert.equal(learningRate(PAPER, 1), 4e-4 / 2000);
  assert.equal(learningRate(PAPER, 2000), 4e-4);
  const middle = (PAPER.warmupSteps + PAPER.totalSteps) / 2;
  assert.ok(Math.abs(learningRate(PAPER, middle) - 2.2e-4) < 1e-15);
  assert.equal(learningRate(PAPER, PAPER.totalSteps), 4e-5);
});

Deno.test("decays from the step right after warmup and never rises again", () => {
  assert.ok(learningRate(PAPER, 2001) < learningRate(PAPER, 2000));
  let previous = learningRate(PAPER, 2000);
  for (let step = 2001; step <= PAPER.totalSteps; step += 997) {
    const lr = learningRate(PAPER, step);
    assert.ok(lr < previous, `step ${step}: ${lr} is not below ${previous}`);
    previous = lr;
  }
});

Deno.test("without warmup the first step is already on the curve", () => {
  const schedule = { lr: 1, minLr: 0, warmupSteps: 0, totalSteps: 4 };
  assert.equal(learningRate(schedule, 2), 0.5);
  assert.equal(learningRate(schedule, 4), 0);
});
