// What `tinyllama demo` finds in its folders: it replaces earlier demos and nothing else.

import assert from "node:assert/strict";
import { join } from "node:path";
import { checkDemoFolders, markDemoData } from "../../lib/cli/demo_folders.ts";
import { loadRunConfig } from "../../lib/train/config.ts";
import { parseOverride } from "../../lib/train/yaml_file.ts";
import { inTempFolder } from "../temp_folder.ts";
import { tinyllama } from "./command_line.ts";

/** The demo's configuration with its folders in `folder`. */
function demoIn(folder: string, ...more: string[]) {
  const own = [`run.output=${join(folder, "run")}`, `data.path=${join(folder, "data")}`];
  return loadRunConfig("demo", [...own, ...more].map((text) => parseOverride(text)));
}

/** Writes what a run with these changes of the demo's configuration begins with. */
function beginRun(folder: string, ...changes: string[]): void {
  Deno.mkdirSync(join(folder, "run"), { recursive: true });
  Deno.writeTextFileSync(join(folder, "run", "config.yaml"), demoIn(folder, ...changes).yaml);
}

Deno.test("an earlier demo may be replaced, whatever its steps and threads were", () =>
  inTempFolder((folder) => {
    const check = () => checkDemoFolders(demoIn(folder));
    check();
    for (const changes of [[], ["horizon.steps=57"], ["horizon.steps=57", "threads=2"]]) {
      beginRun(folder, ...changes);
      check();
    }
    Deno.mkdirSync(join(folder, "data"));
    Deno.writeTextFileSync(join(folder, "data", "manifest.json"), "{}");
    markDemoData(join(folder, "data"));
    check();
    return Promise.resolve();
  }));

Deno.test("runs and data that the demo did not make are refused", () =>
  inTempFolder((folder) => {
    const refused = (name: string, what: string) =>
      assert.throws(() => checkDemoFolders(demoIn(folder)), {
        name: "UsageError",
        message:
          `Cannot run the demo: "${join(folder, name)}" holds ${what} that it did not make ` +
          "and would replace; rename or delete that folder, or start the demo in another working folder",
      });
    for (const change of ["data.path=data/mine", "optimizer.lr=1e-3", "horizon.steps=5000"]) {
      beginRun(folder, change);
      refused("run", "a run");
    }
    Deno.writeTextFileSync(join(folder, "run", "config.yaml"), "not: ours\n");
    refused("run", "a run");
    Deno.removeSync(join(folder, "run", "config.yaml"));
    Deno.mkdirSync(join(folder, "run", "step-0000000010"));
    refused("run", "a run");
    Deno.removeSync(join(folder, "run"), { recursive: true });
    Deno.mkdirSync(join(folder, "data"));
    Deno.writeTextFileSync(join(folder, "data", "manifest.json"), "{}");
    refused("data", "prepared data");
    return Promise.resolve();
  }));

Deno.test("the command refuses before it touches anything", () =>
  inTempFolder(async (folder) => {
    const run = join(folder, "runs", "demo"), config = join(run, "config.yaml");
    Deno.mkdirSync(run, { recursive: true });
    Deno.writeTextFileSync(config, loadRunConfig("demo", [parseOverride("run.seed=1")]).yaml);
    const before = Deno.readTextFileSync(config);
    const { code, text, error } = await tinyllama(["demo", "--seconds", "1"], { folder });
    assert.equal(code, 2, error);
    assert.match(error, /^error: Cannot run the demo: "runs\/demo" holds a run .*; rename /);
    assert.equal(text, "");
    assert.equal(Deno.readTextFileSync(config), before);
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["runs"]);
  }));
