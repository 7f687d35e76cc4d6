// Pretraining on a CUDA card: full steps beside PyTorch, the device memory they take, and where the time of a step goes.

import { trainingFlopsPerToken } from "../../lib/model/flops.ts";
import { footprintOf } from "../../lib/backend/footprint.ts";
import { planTraining } from "../../lib/train/plan.ts";
import { Trainer, type TrainerConfig } from "../../lib/train/trainer.ts";
import { type BenchBackend, describeCard, openBenchBackend } from "./gpu_device.ts";
import { Measure } from "./gpu_measure.ts";
import { figureOf, peerNote, ratio, runTorch } from "./gpu_peer.ts";
import { randomizeParameters } from "./gpu_random.ts";
import type { BenchSizes } from "./gpu_sizes.ts";
import type { Table } from "./gpu_table.ts";
import { median } from "./median.ts";
import { callMsOf, profiledBackend, type ProfileEntry } from "./profiled_backend.ts";
import { randomSamples, syntheticConfig } from "./synthetic_training.ts";

/** Norm outputs and SwiGLU are computed again, as configs/train/tinyllama-1.1b.yaml has it. */
const RECOMPUTE: TrainerConfig["recompute"] = "cheap";
const PROFILED_STEPS = 3;

/** What was measured of our own steps. */
interface TrainingFigures {
  readonly stepMs: readonly number[];
  readonly loss: number;
  readonly takenBytes: number;
  readonly tableBytes: number;
  readonly plannedBytes: number;
}

/** Tables of the part `train`. `torch` is a Python with PyTorch. */
export async function trainingTables(
  sizes: BenchSizes,
  torch: string | undefined,
): Promise<Table[]> {
  const { figures, peakFlops } = await measureSteps(sizes);
  const profile = await profileStep(sizes, median(figures.stepMs));
  const peer = await runTorch(torch, "train", sizes);
  const tokens = sizes.batch * sizes.length,
    flops = trainingFlopsPerToken(sizes.model, sizes.length);
  const rate = tokens / median(figures.stepMs) * 1000;
  const peerRate = figureOf(peer, "tokens_per_second"), peerMs = figureOf(peer, "step_ms");
  const utilisation = (one: number | null) =>
    one === null || peakFlops === null ? null : 100 * one * flops / peakFlops;
  const row = (name: string, ours: number, theirs: number | null, goal: string | null) =>
    [name, ours, theirs, ratio(ours, theirs), goal] as const;
  const steps: Table = {
    title: `Pretraining ${sizes.name}, ${sizes.batch} x ${sizes.length} tokens a step, bf16`,
    columns: ["", "tinyllama", "PyTorch", "ratio", "goal"],
    rows: [
      row("tokens/s", rate, peerRate, "ratio 1.15"),
      row("step, ms (median)", median(figures.stepMs), peerMs, null),
      row("step, ms (least)", Math.min(...figures.stepMs), figureOf(peer, "fastest_step_ms"), null),
      ["model FLOP utilisation, %", utilisation(rate), utilisation(peerRate), null, "50"],
      row(
        "device memory, GB",
        figures.takenBytes / 1e9,
        peakOf(figureOf(peer, "peak_bytes")),
        "40",
      ),
      ["memory table, GB", figures.tableBytes / 1e9, null, null, null],
      ["memory planned by a dry run, GB", figures.plannedBytes / 1e9, null, null, "within 5 %"],
      row("loss of the last step", figures.loss, figureOf(peer, "loss"), null),
    ],
    notes: [
      peerNote(peer),
      `Medians of ${sizes.steps} steps after ${sizes.warmup}; recompute: ${RECOMPUTE}. ` +
      `Utilisation is of ${
        peakFlops === null ? "an unknown peak" : `${peakFlops / 1e12} TFLOP/s`
      }.`,
    ],
  };
  return [steps, profile];
}

function peakOf(bytes: number | null): number | null {
  return bytes === null ? null : bytes / 1e9;
}

function trainerConfig({ model, batch }: BenchSizes): TrainerConfig {
  return syntheticConfig(model, batch, RECOMPUTE);
}

function randomTrainer({ backend }: BenchBackend, sizes: BenchSizes): Trainer {
  const trainer = new Trainer(backend, trainerConfig(sizes), sizes.length);
  randomizeParameters(backend, trainer.params);
  trainer.roundParameters();
  return trainer;
}

async function measureSteps(
  sizes: BenchSizes,
): Promise<{ figures: TrainingFigures; peakFlops: number | null }> {
  using bench = await openBenchBackend();
  using trainer = randomTrainer(bench, sizes);
  const samples = randomSamples(sizes.model.vocabSize, sizes.length);
  const stepMs: number[] = [];
  let loss = NaN;
  for (let step = 1; step <= sizes.warmup + sizes.steps; step++) {
    const start = performance.now();
    loss = (await trainer.step(step, samples)).loss;
    if (step > sizes.warmup) stepMs.push(performance.now() - start);
  }
  const planned = planTraining(trainerConfig(sizes), sizes.length, footprintOf("cuda", "bf16"));
  const figures = {
    ...{ stepMs, loss, takenBytes: bench.takenBytes(), tableBytes: bench.backend.allocatedBytes },
    plannedBytes: planned.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
  return { figures, peakFlops: describeCard(bench.device).peakFlops };
}

/** Every operation of a step between two marks on the device; a step of its own, not replayed. */
async function profileStep(sizes: BenchSizes, stepMs: number): Promise<Table> {
  using bench = await openBenchBackend();
  const entries = new Map<string, ProfileEntry>();
  const { clock } = bench, samples = randomSamples(sizes.model.vocabSize, sizes.length);
  const profiled = { ...bench, backend: profiledBackend(bench.backend, entries, clock) };
  const ms = new Map<string, number[]>();
  {
    using trainer = randomTrainer(profiled, sizes);
    await trainer.step(1, samples);
    for (let step = 0; step < PROFILED_STEPS; step++) {
      entries.clear();
      clock.reset();
      await trainer.step(2 + step, samples);
      for (const [key, entry] of entries) {
        const sum = callMsOf(entry, clock).reduce((a, b) => a + b, 0);
        ms.set(key, [...ms.get(key) ?? [], sum]);
      }
    }
  }
  using measure = new Measure(bench, sizes);
  const { copyGbs, productTflops } = await measure.ceilings();
  const lines = [...entries].map(([key, entry]) => ({ ...entry, ms: median(ms.get(key) ?? []) }));
  const total = lines.reduce((sum, line) => sum + line.ms, 0);
  return {
    title: "Where a step goes",
    columns: ["operation", "shapes", "calls", "ms", "share, %", "TFLOP/s", "GB/s", "of ceiling, %"],
    rows: [
      ...lines.sort((a, b) => b.ms - a.ms).map(({ operation, shapes, calls, flops, bytes, ms }) => {
        const tflops = flops > 0 ? calls.length * flops / ms / 1e9 : null;
        const gbs = flops > 0 ? null : calls.length * bytes / ms / 1e6;
        const share = tflops === null ? Number(gbs) / copyGbs : tflops / productTflops;
        return [operation, shapes, calls.length, ms, 100 * ms / total, tflops, gbs, 100 * share];
      }),
      ["all operations", "", null, total, 100, null, null, null],
    ],
    notes: [
      `Medians of ${PROFILED_STEPS} steps with a mark around every operation; a step as it runs, ` +
      `replayed, takes ${stepMs.toFixed(1)} ms. Ceilings: a product of ${
        productTflops.toFixed(0)
      } ` +
      `TFLOP/s, a copy of ${
        copyGbs.toFixed(0)
      } GB/s (read and written). Bytes count every operand ` +
      "once, and twice where it is read and written.",
    ],
  };
}
