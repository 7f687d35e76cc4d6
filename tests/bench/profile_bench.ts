// Where the time goes: every operation of training steps, of a prompt's passage or of decoding, by shapes, with its
// rate and that rate's share of what the machine can do; not a test. CPU only.
//
//   deno run -A tests/bench/profile_bench.ts [--what train|prefill|decode] [--precision f32|bf16] [--device cpu]
//     [--threads N] [--steps 5] [--json FILE]
//     train: [--model configs/models/nano-15m.yaml] [--batch 8] [--length 256]
//     prefill, decode: --model FOLDER [--weights stored|q8_0|q4_0] [--length 512]

// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { UsageError } from "../../lib/core/errors.ts";
import { measureCeilings } from "./ceilings.ts";
import { startGeneration } from "./generation_run.ts";
import { median } from "./median.ts";
import { callMsOf, profiledBackend, type ProfileEntry } from "./profiled_backend.ts";
import { writeReport } from "./report.ts";
import { randomSamples, readModelFile, syntheticTrainer } from "./synthetic_training.ts";

interface Options {
  readonly what: string;
  readonly model: string;
  readonly weights: string;
  readonly batch: number;
  readonly length: number;
}

/** A unit of work that can be repeated, on a backend that is observed. */
interface Work extends Disposable {
  run(): Promise<unknown>;
}

function trainingWork(backend: Backend, options: Options): Work {
  const model = readModelFile(options.model);
  const trainer = syntheticTrainer(backend, model, options.batch, options.length);
  const samples = randomSamples(model.vocabSize, options.length);
  let step = 0;
  return {
    run: () => trainer.step(++step, samples),
    [Symbol.dispose]: () => trainer[Symbol.dispose](),
  };
}

async function generationWork(backend: Backend, options: Options): Promise<Work> {
  const run = await startGeneration(backend, options.model, options.weights, options.length + 1024);
  const prompt = run.prompt(options.length);
  await run.prefill(prompt);
  return {
    run: () => options.what === "prefill" ? run.prefill(prompt) : run.step(),
    [Symbol.dispose]: () => run[Symbol.dispose](),
  };
}

async function openWork(backend: Backend, options: Options): Promise<Work> {
  switch (options.what) {
    case "train":
      return trainingWork(backend, options);
    case "prefill":
    case "decode":
      return await generationWork(backend, options);
    default:
      throw new UsageError(
        `Cannot profile --what ${options.what}: expected train, prefill or decode`,
      );
  }
}

/** Milliseconds a step, from the median of each of the entry's calls within a step: the k-th call is the same work. */
function stepMsOf(entry: ProfileEntry, steps: number): number {
  const callMs = callMsOf(entry);
  const calls = callMs.length / steps;
  let sum = 0;
  for (let call = 0; call < calls; call++) {
    sum += median(Array.from({ length: steps }, (_, step) => callMs[step * calls + call]));
  }
  return sum;
}

/** One line an operation, the longest first. */
function printTable(
  entries: readonly ProfileEntry[],
  steps: number,
  productCeiling: number,
  readCeiling: number,
): void {
  const lines = entries.map((entry) => ({ ...entry, ms: stepMsOf(entry, steps) }))
    .sort((a, b) => b.ms - a.ms);
  const total = lines.reduce((sum, { ms }) => sum + ms, 0);
  console.log(
    "operation".padEnd(29) + "shapes".padEnd(30) + "calls       ms   share        rate  of peak",
  );
  for (const { operation, shapes, calls: made, flops, bytes, ms } of lines) {
    const calls = made.length / steps;
    // A product with one row reads its matrix once: memory bounds it.
    const isProduct = flops > 0 && !shapes.startsWith("1 x");
    const rate = calls * (isProduct ? flops : bytes) / ms / 1e6;
    const share = rate / (isProduct ? productCeiling : readCeiling);
    console.log(
      operation.padEnd(29) + shapes.padEnd(30) + String(calls).padStart(5) +
        ms.toFixed(2).padStart(9) + `${(100 * ms / total).toFixed(1)} %`.padStart(8) +
        `${rate.toFixed(0)} ${isProduct ? "GFLOP/s" : "GB/s"}`.padStart(12) +
        (Number.isNaN(share) ? "" : `${(100 * share).toFixed(0)} %`.padStart(9)),
    );
  }
  console.log(`${total.toFixed(2)} ms in operations`);
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    what: { type: "string", default: "train" },
    model: { type: "string", default: "configs/models/nano-15m.yaml" },
    weights: { type: "string", default: "stored" },
    batch: { type: "string", default: "8" },
    length: { type: "string", default: "256" },
    precision: { type: "string", default: "f32" },
    device: { type: "string", default: "cpu" },
    threads: { type: "string" },
    steps: { type: "string", default: "5" },
    json: { type: "string" },
  },
});
const { precision } = values;
if (precision !== "f32" && precision !== "bf16") {
  throw new UsageError(`Cannot compute with --precision ${precision}: expected f32 or bf16`);
}
const threads = Number(values.threads ?? navigator.hardwareConcurrency);
const steps = Number(values.steps);
const entries = new Map<string, ProfileEntry>();
using backend = await openBackend({ device: values.device, threads, matmul: precision });
const options = { ...values, batch: Number(values.batch), length: Number(values.length) };
using work = await openWork(profiledBackend(backend, entries), options);
await work.run();
entries.clear();
const elapsedMs: number[] = [];
for (let step = 0; step < steps; step++) {
  const start = performance.now();
  await work.run();
  elapsedMs.push(performance.now() - start);
}
const ceilings = await measureCeilings(threads);
const productCeiling = precision === "bf16" ? ceilings?.bf16Gflops : ceilings?.f32Gflops;
console.log(`${values.what} ${values.model}, ${backend.info.name}, products in ${precision}`);
printTable([...entries.values()], steps, productCeiling ?? NaN, ceilings?.readGbs ?? NaN);
console.log(`${median(elapsedMs).toFixed(2)} ms a step; peaks ${JSON.stringify(ceilings)}`);
writeReport(values.json, { elapsedMs, ceilings, entries: [...entries.values()] });
