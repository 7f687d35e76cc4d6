// `deno task bench:gpu` and `deno task test:gpu` themselves: every part of the benches runs on a small model and reports, and
// the tests fail where there is no card.

import assert from "node:assert/strict";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { buildSimulator } from "../cuda_sim/build.ts";
import { inTempFolder } from "../temp_folder.ts";
import { cuda, onCuda } from "./on_cuda.ts";

const ROOT = new URL("../../", import.meta.url);

async function run(args: readonly string[], env: Record<string, string>) {
  const command = { args: ["run", "-A", "--no-check", ...args], cwd: ROOT, env };
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), command).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout), error: decoder.decode(stderr) };
}

/** Where commands find the simulator; nothing on a card. */
async function librariesOfTests(): Promise<Record<string, string>> {
  const build = cuda.isSimulated ? await buildSimulator() : null;
  return build?.kind === "built" ? { TINYLLAMA_CUDA_LIBRARIES: build.folder } : {};
}

onCuda(
  "every part of bench:gpu measures a small model and is reported",
  () =>
    inTempFolder(async (output) => {
      const parts = ["attention", "kernels", "decode", "train", "start"];
      const flags = ["--tiny", "--only", parts.join(","), "--output", output];
      const program = "tests/bench/gpu_bench.ts";
      const { code, text, error } = await run([program, ...flags], await librariesOfTests());
      assert.equal(code, 0, error);
      const path = /written to (.*\.md)/.exec(text)?.[1] ?? "";
      const report = JSON.parse(Deno.readTextFileSync(path.replace(".md", ".json")));
      assert.deepEqual(Object.keys(report.sections), parts);
      for (const part of parts) {
        const { error, tables } = report.sections[part];
        assert.equal(error, null, part);
        for (const { columns, rows } of tables) {
          assert.ok(rows.length > 0, part);
          for (const row of rows) assert.equal(row.length, columns.length, part);
        }
      }
      assert.match(
        Deno.readTextFileSync(path),
        /\n## Pretraining\n\n.* UTC, `deno task bench:gpu /,
      );
    }),
);

Deno.test({
  name: "a part of bench:gpu that fails is recorded and the next one goes on in the CUDA simulator",
  ignore: !cuda.isSimulated || cuda.missing !== null,
  fn: () =>
    inTempFolder(async (output) => {
      const flags = ["--tiny", "--only", "decode,attention", "--output", output];
      const memory = { TINYLLAMA_CUDA_SIM_MEMORY: String(16 << 20) };
      const { code, text } = await run(["tests/bench/gpu_bench.ts", ...flags], memory);
      assert.equal(code, 1);
      const path = /written to (.*\.md)/.exec(text)?.[1] ?? "";
      const { sections } = JSON.parse(Deno.readTextFileSync(path.replace(".md", ".json")));
      for (const part of ["decode", "attention"]) {
        assert.match(sections[part].error, /^error: .*Cannot allocate "scratch" on cuda/);
      }
      assert.match(Deno.readTextFileSync(path), /\nEnded early:\n/);
    }),
});

Deno.test("bench:gpu refuses a Python without PyTorch before it measures", async () => {
  const { code, error } = await run(["tests/bench/gpu_bench.ts", "--torch", "nowhere"], {});
  assert.equal(code, 1);
  assert.match(error, /Cannot use --torch nowhere: there is no such program/);
});

const hasCard = findCuda().kind === "found";
Deno.test({
  name: `test:gpu fails without a card and says what was tried${
    hasCard ? " (skipped: there is one)" : ""
  }`,
  ignore: hasCard,
  async fn() {
    const { code, error } = await run(["tests/gpu/run.ts"], { TINYLLAMA_CUDA_SIM: "0" });
    assert.equal(code, 1);
    assert.match(error, /^Cannot test on a card: there is none.\nCannot use cuda: .*Tried:\n {2}/s);
  },
});
