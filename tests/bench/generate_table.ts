// The table of generation speed: a prompt of 512 tokens, and 128 tokens after 128, with bf16, q8_0 and q4_0 weights, beside
// llama.cpp where a folder with node-llama-cpp is named. Each figure is the median over rounds in which both take turns.
//
//   deno run -A tests/bench/make_model.ts FOLDER --gguf bf16,q8_0,q4_0
//   npm install --prefix PEER node-llama-cpp
//   deno run -A tests/bench/generate_table.ts --model FOLDER [--llama-cpp PEER] [--rounds 3] [--threads N] [--json FILE]

// deno-lint-ignore-file no-console
import { join } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../lib/core/errors.ts";
import { measureCeilings } from "./ceilings.ts";
import { writeReport } from "./report.ts";
import { type Contender, type Measured, measureInTurn, medianOf, ratioOf } from "./side_by_side.ts";

const HERE = import.meta.dirname ?? ".";
/** Types of weights by the name of their GGUF file, and how ours are asked for. */
const WEIGHTS = { bf16: "stored", q8_0: "q8_0", q4_0: "q4_0" } as const;
type Weights = keyof typeof WEIGHTS;

function contenders(
  weights: Weights,
  folder: string,
  threads: string,
  peer: string | undefined,
): Contender[] {
  const flags = ["--threads", threads, "--rounds", "2"];
  const program = [Deno.execPath(), "run", "-A", join(HERE, "generate_bench.ts")];
  const ours = {
    name: "tinyllama",
    argv: [...program, "--model", folder, "--weights", WEIGHTS[weights], ...flags],
  };
  if (peer === undefined) return [ours];
  const script = ["node", join(HERE, "peers/llama_cpp.mjs"), peer];
  return [ours, {
    name: "llama.cpp",
    argv: [...script, join(folder, `${weights}.gguf`), ...flags],
  }];
}

function printRows(weights: Weights, measured: readonly Measured[]): void {
  const [ours] = measured;
  for (const one of measured) {
    const cells = ["prefill_tokens_per_second", "decode_tokens_per_second"].map((metric) => {
      const ratio = one === ours ? "" : `(${ratioOf(ours, one, metric).toFixed(2)} x)`;
      return `${medianOf(one, metric).toFixed(1).padStart(10)} ${ratio.padEnd(10)}`;
    });
    const bandwidth = medianOf(one, "decode_gigabytes_per_second");
    const read = Number.isNaN(bandwidth) ? "" : bandwidth.toFixed(0);
    console.log(`${weights.padEnd(7)}${one.name.padEnd(12)}${cells.join("")}${read.padStart(6)}`);
  }
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    model: { type: "string" },
    "llama-cpp": { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    json: { type: "string" },
  },
});
const { model } = values;
if (model === undefined) {
  throw new UsageError("Cannot generate: --model FOLDER is missing; make_model.ts makes one");
}
const ceilings = await measureCeilings(Number(values.threads));
const results: unknown[] = [];
console.log("tokens/s           prefill 512 (ours/this)  decode 128 (ours/this)  GB/s");
for (const weights of ["bf16", "q8_0", "q4_0"] as const) {
  const measured = await measureInTurn(
    contenders(weights, model, values.threads, values["llama-cpp"]),
    Number(values.rounds),
  );
  printRows(weights, measured);
  results.push({ weights, measured });
}
console.log(`${values.threads} threads; this machine can do ${JSON.stringify(ceilings)}`);
writeReport(values.json, { threads: Number(values.threads), ceilings, results });
