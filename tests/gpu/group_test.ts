// How the outcome of a group of tests is read from what it printed.

import assert from "node:assert/strict";
import { outcomeOf, runGroup } from "./group.ts";

const PASSING = `running 2 tests from ./a_test.ts
adamw on cuda f32 ...
  adamwUpdate() of 5 ... ok (1ms)
adamw on cuda f32 ... ok (3ms)
rope on cuda f32 ... ok (2ms)

ok | 2 passed (1 step) | 0 failed | 7 filtered out (1s)
`;
const FAILING = `adamw on cuda f32 ...
  adamwUpdate() of 5 ... FAILED (1ms)
adamw on cuda f32 ... FAILED (due to 1 failed step) (3ms)
rope on cuda f32 ... ok (2ms)
swiglu on cuda f32 ... ignored (0ms)

FAILED | 1 passed | 1 failed (1 step) | 1 ignored | 7 filtered out (1s)
`;

Deno.test("a group passes when its tests do, and not without any or with some skipped", () => {
  const outcome = outcomeOf("a", { code: 0, text: PASSING }, 1, false);
  const counts = { passed: 2, failed: 0, skipped: 0, seconds: 1 };
  assert.deepEqual(outcome, { name: "a", ...counts, failure: null, culprits: [] });
  const empty = { code: 0, text: "ok | 0 passed | 0 failed | 9 filtered out (1ms)\n" };
  assert.equal(outcomeOf("a", empty, 1, false).failure, "no test ran");
  const skipping = { code: 0, text: "ok | 3 passed | 0 failed | 2 ignored (1ms)\n" };
  assert.equal(outcomeOf("a", skipping, 1, false).failure, "2 tests were skipped");
  assert.equal(outcomeOf("a", skipping, 1, true).failure, null);
});

Deno.test("a group that fails names its tests, also when it was stopped before its end", () => {
  const culprits = ["adamwUpdate() of 5", "adamw on cuda f32"];
  const failed = outcomeOf("a", { code: 1, text: FAILING }, 1, false);
  assert.equal(failed.failure, "ended with code 1");
  assert.deepEqual(failed.culprits, culprits);
  assert.deepEqual([failed.passed, failed.failed, failed.skipped], [1, 1, 1]);
  const text = FAILING.slice(0, FAILING.indexOf("swiglu"));
  const stopped = outcomeOf("a", { code: 124, text }, 8, false);
  assert.equal(stopped.failure, "stopped after 8 s");
  assert.deepEqual(stopped.culprits, culprits);
  assert.deepEqual([stopped.passed, stopped.failed], [1, 1]);
});

Deno.test({
  name: "a group that hangs is stopped with all that it started",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const command = ["sh", "-c", "echo 'one on cuda ... ok (1ms)'; sleep 100 & sleep 100"];
    const { passed, failure, seconds } = await runGroup("a", command, 1, false);
    assert.equal(passed, 1);
    assert.match(failure ?? "", /^stopped after \d+ s$/);
    assert.ok(seconds < 60);
  },
});
