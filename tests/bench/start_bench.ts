// From the start of a process to its first token, in milliseconds: `tinyllama generate` with a folder of bf16 weights, and
// llama.cpp under Node with the same weights where a folder with node-llama-cpp is named. Files are in the page cache
// after an uncounted round. Models as for generate_table.ts.
//
//   deno run -A tests/bench/start_bench.ts --model FOLDER [--llama-cpp PEER] [--binary tinyllama] [--device auto]
//     [--rounds 5] [--json FILE]

// deno-lint-ignore-file no-console
import { join } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../lib/core/errors.ts";
import { median } from "./median.ts";
import { writeReport } from "./report.ts";
import type { Contender } from "./side_by_side.ts";

const HERE = import.meta.dirname ?? ".";

/** Milliseconds from spawning the process until it first prints, which it does with the first token. */
async function firstOutputMs({ name, argv: [command, ...args] }: Contender): Promise<number> {
  const start = performance.now();
  const child = new Deno.Command(command, { args, stdout: "piped", stderr: "piped" }).spawn();
  const reader = child.stdout.getReader();
  const { done } = await reader.read();
  const elapsedMs = performance.now() - start;
  while (!(await reader.read()).done);
  const errors = await new Response(child.stderr).text();
  const { code } = await child.status;
  if (code !== 0 || done) throw new Error(`"${name}" ended with code ${code}:\n${errors}`);
  return elapsedMs;
}

function contenders(
  folder: string,
  device: string,
  binary: string | undefined,
  peer: string | undefined,
) {
  const prompt = ["generate", "Once upon a time", "--model", folder];
  const flags = ["--max-tokens", "1", "--temperature", "0", "--device", device];
  const source = [Deno.execPath(), "run", "-A", join(HERE, "../../main.ts")];
  const list: Contender[] = [{
    name: "tinyllama, deno run",
    argv: [...source, ...prompt, ...flags],
  }];
  if (binary !== undefined) {
    list.unshift({ name: "tinyllama, binary", argv: [binary, ...prompt, ...flags] });
  }
  if (peer !== undefined) {
    const script = ["node", join(HERE, "peers/llama_cpp.mjs"), peer, join(folder, "bf16.gguf")];
    list.push({ name: "llama.cpp, node", argv: [...script, "--start"] });
  }
  return list;
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    model: { type: "string" },
    "llama-cpp": { type: "string" },
    binary: { type: "string" },
    device: { type: "string", default: "auto" },
    rounds: { type: "string", default: "5" },
    json: { type: "string" },
  },
});
if (values.model === undefined) {
  throw new UsageError("Cannot start: --model FOLDER is missing; make_model.ts makes one");
}
const rows = contenders(values.model, values.device, values.binary, values["llama-cpp"])
  .map((one) => ({ ...one, elapsedMs: new Array<number>() }));
for (const one of rows) await firstOutputMs(one);
for (let round = 0; round < Number(values.rounds); round++) {
  for (const one of rows) one.elapsedMs.push(await firstOutputMs(one));
}
console.log("ms to the first token      least   median    most   this/first");
for (const { name, elapsedMs } of rows) {
  const cells = [Math.min(...elapsedMs), median(elapsedMs), Math.max(...elapsedMs)];
  const ratio = median(elapsedMs.map((ms, round) => ms / rows[0].elapsedMs[round]));
  console.log(
    name.padEnd(24) + cells.map((cell) => cell.toFixed(0).padStart(8)).join("") +
      ratio.toFixed(2).padStart(12),
  );
}
writeReport(values.json, { rows: rows.map(({ name, elapsedMs }) => ({ name, elapsedMs })) });
