// Durations as people read them.

import assert from "node:assert/strict";
import { formatDuration } from "../../lib/cli/progress.ts";

Deno.test("durations keep their two largest units", () => {
  assert.equal(formatDuration(-3), "0s");
  assert.equal(formatDuration(59.4), "59s");
  assert.equal(formatDuration(59.6), "1m 00s");
  assert.equal(formatDuration(3605), "1h 00m");
  assert.equal(formatDuration(90 * 86400 + 7300), "90d 02h");
});
