// From the start of a process to the first token with a model folder in the page cache: writes a random model, 2.2 GB at
// full size, into a temporary folder and runs start_bench.ts on it.

import { join } from "node:path";
import { inTempFolder } from "../temp_folder.ts";
import { median } from "./median.ts";
import { writeRandomModel } from "./random_model.ts";
import type { BenchSizes } from "./gpu_sizes.ts";
import type { Table } from "./gpu_table.ts";
import { readModelFile } from "./synthetic_training.ts";

const MOST_ROUNDS = 5;
const SCRIPT = join(import.meta.dirname ?? ".", "start_bench.ts");

/** Tables of the part `start`. */
export function startTables(sizes: BenchSizes): Promise<Table[]> {
  return inTempFolder(async (folder) => {
    const rounds = Math.min(MOST_ROUNDS, sizes.rounds), model = join(folder, "model");
    // The file's own vocabulary: the command has a text to tokenize.
    await writeRandomModel(model, readModelFile(sizes.modelPath));
    const ms = await startMs(model, rounds, join(folder, "start.json"));
    return [{
      title: `From the start of a process to the first token, ${sizes.name}, bf16`,
      columns: ["", "ms", "goal"],
      rows: [
        ["least", Math.min(...ms), null],
        ["median", median(ms), "3000"],
        ["most", Math.max(...ms), null],
      ],
      notes: [
        `${rounds} processes after an uncounted one, which leaves the file in the page cache and the ` +
        "kernels in the driver's cache.",
      ],
    }];
  });
}

async function startMs(model: string, rounds: number, report: string): Promise<number[]> {
  const program = ["run", "-A", SCRIPT, "--model", model, "--device", "cuda"];
  const command = new Deno.Command(Deno.execPath(), {
    args: [...program, "--rounds", String(rounds), "--json", report],
    stdout: "piped",
    stderr: "piped",
  });
  const { success, stderr } = await command.output();
  if (!success) throw new Error(`Cannot measure the start: ${new TextDecoder().decode(stderr)}`);
  return JSON.parse(Deno.readTextFileSync(report)).rows[0].elapsedMs;
}
