// Durations as people read them, and a bar that fits its terminal.

import assert from "node:assert/strict";
import { barLine, formatDuration } from "../../lib/cli/progress.ts";

Deno.test("durations keep their two largest units", () => {
  assert.equal(formatDuration(-3), "0s");
  assert.equal(formatDuration(59.4), "59s");
  assert.equal(formatDuration(59.6), "1m 00s");
  assert.equal(formatDuration(3605), "1h 00m");
  assert.equal(formatDuration(90 * 86400 + 7300), "90d 02h");
});

Deno.test("a narrow terminal keeps a short bar and the beginning of the words", () => {
  const words =
    "43/300  ETA 3m 20s  loss 7.0901  norm 0.58  lr 2.89e-3  25,630 tokens/s  162 GFLOP/s";
  const at = (columns: number) => barLine(43 / 300, words, columns);
  assert.equal(at(200), `${"█".repeat(3)}${"░".repeat(21)} ${words}`);
  assert.equal(at(0), at(200));
  assert.equal(at(100), `${"█".repeat(2)}${"░".repeat(12)} ${words}`);
  assert.equal(at(80), `█${"░".repeat(7)} ${words}`.slice(0, 79));
  assert.equal(at(12), "█░░░░░░░ 43");
  assert.equal(barLine(0, "0/300", 80), `${"░".repeat(24)} 0/300`);
  assert.equal(barLine(1, "300/300", 80), `${"█".repeat(24)} 300/300`);
});
