// Speed of full training steps (forward, backward, clipping, AdamW) on random tokens, as one JSON line; not a test.
// train_table.ts compares it with PyTorch.
//
//   deno run -A tests/bench/train_bench.ts [--model configs/models/nano-15m.yaml] [--batch 8] [--length 256]
//     [--precision f32|bf16] [--device cpu:native] [--threads N] [--warmup 2] [--steps 10]

// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { openBackend } from "../../lib/backend/open.ts";
import { UsageError } from "../../lib/core/errors.ts";
import { trainingFlopsPerToken } from "../../lib/model/flops.ts";
import { median } from "./median.ts";
import { randomSamples, readModelFile, syntheticTrainer } from "./synthetic_training.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    model: { type: "string", default: "configs/models/nano-15m.yaml" },
    batch: { type: "string", default: "8" },
    length: { type: "string", default: "256" },
    precision: { type: "string", default: "f32" },
    device: { type: "string", default: "cpu" },
    threads: { type: "string" },
    warmup: { type: "string", default: "2" },
    steps: { type: "string", default: "10" },
  },
});
const { precision } = values;
if (precision !== "f32" && precision !== "bf16") {
  throw new UsageError(`Cannot train with --precision ${precision}: expected f32 or bf16`);
}
const batch = Number(values.batch), length = Number(values.length);
const warmup = Number(values.warmup), steps = Number(values.steps);
const model = readModelFile(values.model);
using backend = await openBackend({
  device: values.device,
  threads: values.threads === undefined ? null : Number(values.threads),
  matmul: precision,
});
using trainer = syntheticTrainer(backend, model, batch, length);
const samples = randomSamples(model.vocabSize, length);
const elapsedMs: number[] = [];
let loss = NaN;
for (let step = 1; step <= warmup + steps; step++) {
  const start = performance.now();
  loss = (await trainer.step(step, samples)).loss;
  if (step > warmup) elapsedMs.push(performance.now() - start);
}
const stepMs = median(elapsedMs);
const tokensPerSecond = batch * length / stepMs * 1000;
console.log(JSON.stringify({
  device: backend.info.name,
  precision,
  tokens_per_second: tokensPerSecond,
  gflops_per_second: tokensPerSecond * trainingFlopsPerToken(model, length) / 1e9,
  step_ms: stepMs,
  fastest_step_ms: Math.min(...elapsedMs),
  loss,
}));
