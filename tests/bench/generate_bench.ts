// Speed of one stream of generation on made-up tokens, as one JSON line; not a test. Prefill is a prompt's passage until
// its first token is drawn, decoding what follows a shorter prompt. generate_table.ts compares it with llama.cpp.
//
//   deno run -A tests/bench/generate_bench.ts --model FOLDER [--weights stored|q8_0|q4_0] [--precision bf16|f32|auto]
//     [--device cpu] [--threads N] [--prompt 512] [--depth 128] [--new 128] [--rounds 3]

// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { openBackend } from "../../lib/backend/open.ts";
import { UsageError } from "../../lib/core/errors.ts";
import { startGeneration } from "./generation_run.ts";
import { median } from "./median.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    model: { type: "string" },
    weights: { type: "string", default: "stored" },
    precision: { type: "string", default: "auto" },
    device: { type: "string", default: "cpu" },
    threads: { type: "string" },
    prompt: { type: "string", default: "512" },
    depth: { type: "string", default: "128" },
    new: { type: "string", default: "128" },
    rounds: { type: "string", default: "3" },
  },
});
const { model, precision } = values;
if (model === undefined) throw new UsageError("Cannot generate: --model FOLDER is missing");
if (precision !== "f32" && precision !== "bf16" && precision !== "auto") {
  throw new UsageError(`Cannot generate with --precision ${precision}: expected f32, bf16 or auto`);
}
const prompt = Number(values.prompt), depth = Number(values.depth), fresh = Number(values.new);
using backend = await openBackend({
  device: values.device,
  threads: values.threads === undefined ? null : Number(values.threads),
  matmul: precision,
});
using run = await startGeneration(
  backend,
  model,
  values.weights,
  Math.max(prompt + 1, depth + fresh + 1),
);
const prefillRates: number[] = [], decodeRates: number[] = [];
let ids: number[] = [];
for (let round = 0; round <= Number(values.rounds); round++) {
  const prefillStart = performance.now();
  await run.prefill(run.prompt(prompt));
  const prefillMs = performance.now() - prefillStart;
  ids = [await run.prefill(run.prompt(depth))];
  const decodeStart = performance.now();
  for (let i = 0; i < fresh; i++) ids.push(await run.step());
  const decodeMs = performance.now() - decodeStart;
  if (round === 0) continue; // caches and pages are cold
  prefillRates.push(prompt / prefillMs * 1000);
  decodeRates.push(fresh / decodeMs * 1000);
}
const decodeRate = median(decodeRates);
console.log(JSON.stringify({
  device: backend.info.name,
  weights: values.weights,
  weight_bytes: run.weightBytes,
  prefill_tokens_per_second: median(prefillRates),
  decode_tokens_per_second: decodeRate,
  decode_gigabytes_per_second: decodeRate * run.weightBytes / 1e9,
  first_ids: ids.slice(0, 8),
}));
