// The table of training speed: full steps of nano-15m (8 x 256 tokens) and small-110m (1 x 1024), ours in f32 and with
// bf16 products, native and WASM, beside PyTorch where a Python with torch is named. Each figure is the median over
// rounds in which all take turns.
//
//   deno run -A tests/bench/train_table.ts [--torch PYTHON] [--only nano-15m] [--rounds 3] [--threads N] [--json FILE]

// deno-lint-ignore-file no-console
import { join } from "node:path";
import { parseArgs } from "node:util";
import { trainingFlopsPerToken } from "../../lib/model/flops.ts";
import { findNative } from "../../lib/backend/cpu/native.ts";
import { measureCeilings } from "./ceilings.ts";
import { writeReport } from "./report.ts";
import { type Contender, type Measured, measureInTurn, medianOf, ratioOf } from "./side_by_side.ts";
import { readModelFile } from "./synthetic_training.ts";

const METRIC = "tokens_per_second";
const HERE = import.meta.dirname ?? ".";

/** A model with the batch it is trained on. */
interface Task {
  readonly name: string;
  readonly batch: number;
  readonly length: number;
}

const TASKS: readonly Task[] = [
  { name: "nano-15m", batch: 8, length: 256 },
  { name: "small-110m", batch: 1, length: 1024 },
];

type Precision = "f32" | "bf16";

/** The ways PyTorch is run; the fastest counts. Eager transformers is never the fastest and left out. */
const VARIANTS = ["compile", "transformers-compile", "eager"] as const;

function modelPath(task: Task): string {
  return join(HERE, `../../configs/models/${task.name}.yaml`);
}

function ours(task: Task, device: string, precision: Precision, threads: string): Contender {
  const program = [Deno.execPath(), "run", "-A", join(HERE, "train_bench.ts")];
  const flags = ["--device", device, "--precision", precision, "--steps", "5"];
  return { name: device, argv: [...program, ...taskFlags(task, threads), ...flags] };
}

function peer(
  python: string,
  task: Task,
  variant: string,
  precision: Precision,
  threads: string,
): Contender {
  const program = [python, join(HERE, "peers/torch_train.py")];
  const flags = ["--variant", variant, "--precision", precision, "--steps", "5"];
  return { name: `torch ${variant}`, argv: [...program, ...taskFlags(task, threads), ...flags] };
}

function taskFlags(task: Task, threads: string): string[] {
  const { batch, length } = task;
  const size = ["--batch", String(batch), "--length", String(length), "--threads", threads];
  return ["--model", modelPath(task), ...size];
}

function contenders(
  task: Task,
  precision: Precision,
  threads: string,
  python: string | undefined,
): Contender[] {
  const search = findNative();
  const isNative = search.kind === "found" && (precision === "f32" || search.build.hasBf16);
  return [
    ...(isNative ? [ours(task, "cpu:native", precision, threads)] : []),
    ...(precision === "f32" ? [ours(task, "cpu:wasm", precision, threads)] : []),
    ...(python === undefined
      ? []
      : VARIANTS.map((variant) => peer(python, task, variant, precision, threads))),
  ];
}

/** One line a contender; ours with their ratio to the fastest peer. */
function printRows(task: Task, precision: Precision, measured: readonly Measured[]): void {
  const flopsPerToken = trainingFlopsPerToken(readModelFile(modelPath(task)), task.length);
  const peers = measured.filter(({ name }) => name.startsWith("torch"));
  const best = peers.toSorted((a, b) => medianOf(b, METRIC) - medianOf(a, METRIC)).at(0);
  for (const one of measured) {
    const rate = medianOf(one, METRIC);
    const ratio = best === undefined || peers.includes(one)
      ? ""
      : `${ratioOf(one, best, METRIC).toFixed(2)} x ${best.name}`;
    console.log(
      task.name.padEnd(12) + precision.padEnd(6) + one.name.padEnd(28) +
        rate.toFixed(0).padStart(9) + (rate * flopsPerToken / 1e9).toFixed(0).padStart(10) +
        `   ${ratio}`,
    );
  }
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    torch: { type: "string" },
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    json: { type: "string" },
  },
});
const ceilings = await measureCeilings(Number(values.threads));
const results: unknown[] = [];
console.log("model       operands                            tokens/s   GFLOP/s");
for (const task of TASKS.filter(({ name }) => values.only === undefined || name === values.only)) {
  for (const precision of ["f32", "bf16"] as const) {
    const measured = await measureInTurn(
      contenders(task, precision, values.threads, values.torch),
      Number(values.rounds),
    );
    printRows(task, precision, measured);
    results.push({ task, precision, measured });
  }
}
console.log(`${values.threads} threads; this machine can do ${JSON.stringify(ceilings)}`);
writeReport(values.json, { threads: Number(values.threads), ceilings, results });
