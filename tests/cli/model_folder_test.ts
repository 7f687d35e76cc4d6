// What `--model` may name: a model folder, a run folder with its latest complete checkpoint, and nothing else.

import assert from "node:assert/strict";
import { join } from "node:path";
import { resolveModelFolder } from "../../lib/cli/model_folder.ts";
import { writeCheckpoint } from "../../lib/train/checkpoint.ts";
import { inTempFolder } from "../temp_folder.ts";

Deno.test("a model folder is itself, a run folder its latest complete checkpoint", () =>
  inTempFolder(async (root) => {
    const run = join(root, "run");
    const fill = (folder: string) => Deno.writeTextFile(join(folder, "config.json"), "{}");
    Deno.mkdirSync(run);
    for (const step of [9, 1000, 30]) await writeCheckpoint(run, step, fill);
    Deno.mkdirSync(join(run, "step-002000.unfinished"));
    const latest = join(run, "step-001000");
    assert.equal(resolveModelFolder(run), latest);
    assert.equal(resolveModelFolder(latest), latest);
    Deno.removeSync(join(latest, "config.json"));
    assert.equal(resolveModelFolder(run), join(run, "step-000030"));
  }));

Deno.test("what is no model says what was looked for and what is there", () =>
  inTempFolder((root) => {
    const refuses = (path: string, message: RegExp) =>
      assert.throws(() => resolveModelFolder(path), { name: "UsageError", message });
    refuses(join(root, "nowhere"), /nowhere": there is no such folder; expected a run folder of/);
    Deno.writeTextFileSync(join(root, "model.gguf"), "");
    refuses(join(root, "model.gguf"), /model.gguf": it is a file, not a folder/);
    refuses(join(root, "model.gguf", "x"), /there is no such folder/);
    refuses(
      root,
      /found neither config.json \(a model folder\) nor a complete checkpoint .* among model.gguf/,
    );
    Deno.mkdirSync(join(root, "empty"));
    refuses(join(root, "empty"), /among no files at all/);
  }));
