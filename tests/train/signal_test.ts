// A signal to the process ends a run after the step in progress, however busy the device keeps the process.

import assert from "node:assert/strict";
import { join } from "node:path";
import { inTempFolder } from "../temp_folder.ts";

const PROGRAM = join(import.meta.dirname ?? ".", "signalled_run.ts");

Deno.test({
  name: "a signal ends a run after the step in progress",
  ignore: Deno.build.os === "windows",
  async fn() {
    for (let attempt = 0; attempt < 3; attempt++) {
      const { code, stdout, stderr } = await inTempFolder((output) => {
        const args = ["run", "-A", "--no-check", PROGRAM, output];
        return new Deno.Command(Deno.execPath(), { args }).output();
      });
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      const step = Number(new TextDecoder().decode(stdout));
      // It has 200 steps and would end with the last of them if the signal came only between two runs of the event loop.
      assert.ok(step >= 2 && step <= 4, `it ended with step ${step}`);
    }
  },
});
