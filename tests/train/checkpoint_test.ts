// Checkpoint folders on disk: what counts as complete, which is the latest, what is kept.

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  clearRun,
  latestCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
  verifyCheckpoint,
  writeCheckpoint,
} from "../../lib/train/checkpoint.ts";
import { inTempFolder } from "../temp_folder.ts";

function fill(folder: string): Promise<void> {
  Deno.writeTextFileSync(join(folder, "model.safetensors"), "weights");
  return Promise.resolve();
}

Deno.test("the latest is the highest step as a number, not as a text", () =>
  inTempFolder(async (run) => {
    for (const step of [995000, 1000000, 20]) await writeCheckpoint(run, step, fill);
    assert.equal(latestCheckpoint(run)?.step, 1000000);
    assert.deepEqual(listCheckpoints(run).map((one) => one.step), [20, 995000, 1000000]);
    assert.deepEqual([...Deno.readDirSync(run)].length, 3);
  }));

Deno.test("cut off, unfinished and foreign folders do not count", () =>
  inTempFolder(async (run) => {
    await writeCheckpoint(run, 1, fill);
    const cut = await writeCheckpoint(run, 2, fill);
    Deno.writeTextFileSync(join(cut.folder, "model.safetensors"), "weigh");
    await assert.rejects(writeCheckpoint(run, 3, () => Promise.reject(new Error("disk full"))));
    Deno.mkdirSync(join(run, "step-000009"));
    assert.equal(latestCheckpoint(run)?.step, 1);
    assert.equal(latestCheckpoint(join(run, "nowhere")), null);
    await writeCheckpoint(run, 3, fill);
    assert.equal(latestCheckpoint(run)?.step, 3);
  }));

Deno.test("what a killed process left unfinished is cleared away", () =>
  inTempFolder(async (run) => {
    Deno.mkdirSync(join(run, "step-000007.unfinished"));
    Deno.writeTextFileSync(join(run, "step-000007.unfinished", "model.safetensors"), "half");
    Deno.writeTextFileSync(join(run, "notes.unfinished"), "mine");
    await writeCheckpoint(run, 8, fill);
    const names = [...Deno.readDirSync(run)].map(({ name }) => name).sort();
    assert.deepEqual(names, ["notes.unfinished", "step-000008"]);
  }));

Deno.test("damage that keeps the size is found by checksum", () =>
  inTempFolder(async (run) => {
    const { folder } = await writeCheckpoint(run, 1, fill);
    verifyCheckpoint(folder);
    Deno.writeTextFileSync(join(folder, "model.safetensors"), "wEights");
    assert.equal(latestCheckpoint(run)?.step, 1);
    assert.throws(() => verifyCheckpoint(folder), /"model.safetensors" is damaged/);
  }));

Deno.test("retention keeps the last ones and every so many steps", () =>
  inTempFolder(async (run) => {
    for (const step of [10, 20, 30, 40, 50, 60]) await writeCheckpoint(run, step, fill);
    pruneCheckpoints(run, 2, 30);
    assert.deepEqual(listCheckpoints(run).map((one) => one.step), [30, 50, 60]);
    pruneCheckpoints(run, 1, null);
    assert.deepEqual(listCheckpoints(run).map((one) => one.step), [60]);
  }));

Deno.test("clearing a run leaves other files", () =>
  inTempFolder(async (run) => {
    await writeCheckpoint(run, 1, fill);
    Deno.writeTextFileSync(join(run, "metrics.jsonl"), "");
    Deno.writeTextFileSync(join(run, "notes.txt"), "mine");
    clearRun(run);
    assert.deepEqual([...Deno.readDirSync(run)].map((entry) => entry.name), ["notes.txt"]);
  }));
