// What the WebGPU backend costs and reaches: microseconds to encode a dispatch, dispatches of a layer, rates of kernels
// beside a plain copy and beside multiply-adds in registers, all in one run; not a test.
//
//   deno task bench:webgpu
//   deno run -A tests/bench/webgpu_bench.ts [--model configs/models/nano-15m.yaml] [--rows 1024] [--json FILE]

// deno-lint-ignore-file no-console
import process from "node:process";
import { parseArgs } from "node:util";
import { webgpuBackend } from "../../lib/backend/webgpu/backend.ts";
import { CommandStream } from "../../lib/backend/webgpu/command_stream.ts";
import { GpuContext } from "../../lib/backend/webgpu/context.ts";
import { openDevice, type WebgpuDevice } from "../../lib/backend/webgpu/device.ts";
import { fillOp } from "../../lib/backend/webgpu/fill.ts";
import { GpuMemory } from "../../lib/backend/webgpu/memory.ts";
import type { Backend } from "../../lib/core/backend.ts";
import type { SamplingOptions } from "../../lib/core/ops.ts";
import { byteLength, elementCount, rows as rowsOf, type Tensor } from "../../lib/core/tensor.ts";
import type { ModelConfig } from "../../lib/model/config.ts";
import { median } from "./median.ts";
import { writeReport } from "./report.ts";
import { randomSamples, readModelFile, syntheticTrainer } from "./synthetic_training.ts";
import { type Case, productCases } from "./webgpu_products.ts";
import ceilings from "./webgpu_ceilings.wgsl" with { type: "text" };

const GROUP = 256;
const REPEATS = 9;
const MIN_MS = 50;
/** Fewer than a context submits by itself. */
const DISPATCHES = 200;

interface Encoding {
  /** Host microseconds a dispatch, asked for again through the operation. */
  readonly microsecondsByOperation: number;
  /** The same out of a recorded list. */
  readonly microsecondsByReplay: number;
  /** Microseconds until the device is done with a dispatch that does nearly nothing. */
  readonly microsecondsOnDevice: number;
}

/** Milliseconds of the wall clock, and of all processors together: what a software adapter takes on a busy machine. */
interface Time {
  readonly ms: number;
  readonly processorMs: number;
}

/**
 * The time of `run`: the least over repeats, which other work on the machine disturbs least, each of as many runs as take
 * long beside waiting for the device.
 */
async function timeOf(run: () => void, done: () => Promise<unknown>): Promise<Time> {
  const time = async (runs: number): Promise<Time> => {
    await done();
    const start = performance.now(), used = process.cpuUsage();
    for (let i = 0; i < runs; i++) run();
    await done();
    const { user, system } = process.cpuUsage(used);
    return { ms: (performance.now() - start) / runs, processorMs: (user + system) / 1000 / runs };
  };
  await time(1);
  const runs = Math.max(1, Math.ceil(MIN_MS / (await time(1)).ms));
  const times: Time[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) times.push(await time(runs));
  return least(times);
}

function least(times: readonly Time[]): Time {
  return {
    ms: Math.min(...times.map(({ ms }) => ms)),
    processorMs: Math.min(...times.map(({ processorMs }) => processorMs)),
  };
}

/** A context beside the backend's, on the same device. */
function openContext(gpu: WebgpuDevice) {
  const stream = new CommandStream(gpu.device);
  const memory = new GpuMemory(gpu, stream, () => context.forget());
  const context = new GpuContext(gpu, memory, stream);
  const { word } = memory.allocate("word", { word: { dtype: "i32", shape: [1] } }).tensors;
  const done = () => memory.read(word);
  return { stream, memory, context, done };
}

async function measureEncoding(gpu: WebgpuDevice): Promise<Encoding> {
  const { stream, memory, context, done } = openContext(gpu);
  const fill = await fillOp(context);
  using arena = memory.allocate("encoding", { x: { dtype: "f32", shape: [64 * DISPATCHES] } });
  const { x } = arena.tensors;
  const views = Array.from({ length: DISPATCHES }, (_, i) => rowsOf(x, 64 * i, 64 * i + 1));
  const enqueue = () => {
    for (const view of views) fill(view, 1);
  };
  const replay = () => stream.replay("encoding", enqueue);
  const host = async (run: () => void) => {
    const times: number[] = [];
    for (let repeat = 0; repeat < 100; repeat++) {
      await done();
      const start = performance.now();
      run();
      times.push(performance.now() - start);
    }
    return median(times) * 1000 / DISPATCHES;
  };
  const encoding = {
    microsecondsByOperation: await host(enqueue),
    microsecondsByReplay: await host(replay),
    microsecondsOnDevice: (await timeOf(replay, done)).ms * 1000 / DISPATCHES,
  };
  memory[Symbol.dispose]();
  context.destroy();
  return encoding;
}

/** Bytes and floating-point operations of the kernels of webgpu_ceilings.wgsl. */
const COPY_VECTORS = 1 << 22, COPY_BYTES = 32 * COPY_VECTORS;
const ROUNDS = 1024, MULTIPLY_THREADS = 1 << 16, MULTIPLY_FLOPS = 96 * ROUNDS * MULTIPLY_THREADS;

interface Ceilings {
  readonly copy: Time;
  readonly multiplyAdd: Time;
}

async function measureCeilings(gpu: WebgpuDevice): Promise<Ceilings> {
  const { memory, context, done } = openContext(gpu);
  const constants = { GROUP };
  const kernels = await context.compile("ceilings", [ceilings], {
    copy: { entryPoint: "copy", constants },
    multiplyAdd: { entryPoint: "multiply_add", constants },
  });
  const spec = f32(4 * COPY_VECTORS);
  using arena = memory.allocate("ceilings", { out: spec, x: spec });
  const { out, x } = arena.tensors;
  const copy = () => context.run(kernels.copy, [out, x], [COPY_VECTORS], [], COPY_VECTORS / GROUP);
  const multiplyAdd = () =>
    context.run(kernels.multiplyAdd, [out], [ROUNDS], [0.5], MULTIPLY_THREADS / GROUP);
  const measured = { copy: await timeOf(copy, done), multiplyAdd: await timeOf(multiplyAdd, done) };
  memory[Symbol.dispose]();
  context.destroy();
  return measured;
}

/** Dispatches that one more layer adds to a training step. */
async function countDispatches(backend: Backend, model: ModelConfig): Promise<number> {
  const original = GPUComputePassEncoder.prototype.dispatchWorkgroups;
  let count = 0;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (x, y, z) {
    count++;
    original.call(this, x, y, z);
  };
  try {
    const counts: number[] = [];
    for (const numLayers of [1, 2]) {
      using trainer = syntheticTrainer(backend, { ...model, numLayers }, 1, 64);
      count = 0;
      await trainer.step(1, randomSamples(model.vocabSize, 64));
      counts.push(count);
    }
    return counts[1] - counts[0];
  } finally {
    GPUComputePassEncoder.prototype.dispatchWorkgroups = original;
  }
}

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;
const i32 = (...shape: number[]) => ({ dtype: "i32", shape }) as const;

/** Rows of logits: the head of a training step runs in chunks. */
const LOGIT_ROWS = 256;

/** Operands of every operation on N rows. */
function allocateOperands(backend: Backend, model: ModelConfig, N: number) {
  const { hiddenSize: C, intermediateSize: F, numHeads: H, numKvHeads: K, headDim: D } = model;
  const V = model.vocabSize, P = 4 * C * C;
  const arena = backend.allocate("bench", {
    x: f32(N, C),
    y: f32(N, C),
    dx: f32(N, C),
    rstd: f32(N),
    norm: f32(C),
    dNorm: f32(C),
    qkv: f32(1, N, H + 2 * K, D),
    table: f32(N, D),
    positions: i32(1, N),
    keys: f32(1, K, N, D),
    values: f32(1, K, N, D),
    gateUp: f32(N, 2 * F),
    swiglu: f32(N, F),
    embed: f32(V, C),
    tokens: i32(N),
    logits: f32(LOGIT_ROWS, V),
    losses: f32(LOGIT_ROWS),
    targets: i32(LOGIT_ROWS),
    param: f32(P),
    grad: f32(P),
    m: f32(P),
    v: f32(P),
    scalars: f32(64),
    clip: f32(2),
    halves: { dtype: "bf16", shape: [P] },
    blocks: { dtype: "q8_0", shape: [P] },
    sampled: i32(1),
    sampledAt: i32(1),
    logProb: f32(1),
    rng: i32(1, 3),
  });
  const t = arena.tensors;
  for (const [seed, x] of [t.x, t.y, t.qkv, t.gateUp, t.swiglu, t.logits, t.grad].entries()) {
    backend.write(
      x,
      Float32Array.from({ length: elementCount(x.shape) }, (_, i) => Math.sin(i * 1.37 + seed)),
    );
  }
  backend.write(t.tokens, Int32Array.from({ length: N }, (_, i) => (i * i * 31) % V));
  backend.write(t.positions, Int32Array.from({ length: N }, (_, i) => i));
  backend.fill(t.clip, 1);
  backend.fill(t.scalars, 1);
  return arena;
}

type Operands = ReturnType<typeof allocateOperands>["tensors"];

/** What memory bounds in training; bytes are those of operands that must move once. */
function trainingCases(ops: Backend, model: ModelConfig, t: Operands): Case[] {
  const { hiddenSize: C, intermediateSize: F, numHeads: H, numKvHeads: K, headDim: D } = model;
  const V = model.vocabSize, N = t.x.shape[0], P = t.param.shape[0];
  const one = rowsOf(t.scalars, 0, 1), schedule = rowsOf(t.scalars, 0, 2);
  const adamw = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
  const words = (name: string, count: number, run: () => void): Case => ({
    ...{ name, unit: "GB/s", amount: 4 * count, run },
  });
  return [
    words("fill", P, () => ops.fill(t.param, 1)),
    words("rmsnormForward", 2 * N * C, () => ops.rmsnormForward(t.y, t.rstd, t.x, t.norm, 1e-5)),
    words(
      "rmsnormBackward",
      4 * N * C,
      () => ops.rmsnormBackward(t.dx, t.dNorm, t.y, t.x, t.norm, t.rstd),
    ),
    words(
      "ropeForward",
      2 * N * (H + K) * D,
      () => ops.ropeForward(t.qkv, t.table, t.positions, H, K),
    ),
    words("swigluForward", 3 * N * F, () => ops.swigluForward(t.swiglu, t.gateUp)),
    words("swigluBackward", 5 * N * F, () => ops.swigluBackward(t.gateUp, t.swiglu, t.gateUp)),
    words("embeddingForward", 2 * N * C, () => ops.embeddingForward(t.x, t.tokens, t.embed)),
    words("embeddingBackward", 3 * N * C, () => ops.embeddingBackward(t.embed, t.y, t.tokens)),
    words(
      "crossEntropyForward",
      LOGIT_ROWS * V,
      () => ops.crossEntropyForward(t.losses, t.logits, t.targets),
    ),
    words(
      "crossEntropyForwardBackward",
      3 * LOGIT_ROWS * V,
      () => ops.crossEntropyForwardBackward(t.losses, t.logits, t.targets, 1),
    ),
    words("sumOfSquares", P, () => ops.sumOfSquares(one, t.grad)),
    words(
      "adamwUpdate",
      7 * P,
      () => ops.adamwUpdate(t.param, null, t.grad, t.m, t.v, t.clip, schedule, adamw),
    ),
  ];
}

/** What memory bounds in generating and loading. */
function generationCases(ops: Backend, model: ModelConfig, t: Operands): Case[] {
  const V = model.vocabSize, P = t.param.shape[0];
  const plain = { temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };
  const logits = rowsOf(t.logits, 0, 1);
  const sample = (options: Partial<SamplingOptions>): Case => ({
    name: `sampleToken ${JSON.stringify(options)}`,
    unit: "GB/s",
    amount: 4 * V,
    run: () =>
      ops.sampleToken(t.sampled, t.sampledAt, t.logProb, logits, null, t.rng, {
        ...plain,
        ...options,
      }),
  });
  const moved = (name: string, tensors: readonly Tensor[], run: () => void): Case => ({
    name,
    unit: "GB/s",
    amount: tensors.reduce((sum, tensor) => sum + byteLength(tensor), 0),
    run,
  });
  return [
    moved(
      "kvCacheAppend",
      [t.keys, t.values, t.keys, t.values],
      () => ops.kvCacheAppend(t.keys, t.values, t.qkv, t.positions),
    ),
    moved(`cast ${P} f32 to bf16`, [t.halves, t.grad], () => ops.cast(t.halves, t.grad)),
    moved(`quantize ${P} f32 to q8_0`, [t.blocks, t.grad], () => ops.quantize(t.blocks, t.grad)),
    sample({}),
    sample({ topK: 40 }),
    sample({ topP: 0.9 }),
  ];
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    model: { type: "string", default: "configs/models/nano-15m.yaml" },
    rows: { type: "string", default: "1024" },
    json: { type: "string" },
  },
});
const model = readModelFile(values.model);
const gpu = await openDevice();
const adapter = gpu.adapter.description;
console.log(
  `${new Date().toISOString().slice(0, 16)} ${adapter}, ${values.model}, ${values.rows} rows`,
);
const encoding = await measureEncoding(gpu);
console.log(encoding);
using backend = await webgpuBackend(gpu);
const dispatchesPerLayer = await countDispatches(backend, model);
console.log(`${dispatchesPerLayer} dispatches more in a training step for each layer`);
using arena = allocateOperands(backend, model, Number(values.rows));
using products = productCases(backend, model, Number(values.rows));
const cases = [
  ...trainingCases(backend, model, arena.tensors),
  ...generationCases(backend, model, arena.tensors),
  ...products.cases,
];
const before = await measureCeilings(gpu);
const times: Time[] = [];
for (const { run } of cases) {
  times.push(await timeOf(run, () => backend.read(arena.tensors.clip)));
}
const after = await measureCeilings(gpu);
const copy = least([before.copy, after.copy]);
const multiplyAdd = least([before.multiplyAdd, after.multiplyAdd]);
const ceiling = {
  copyGbs: COPY_BYTES / copy.ms / 1e6,
  multiplyAddGflops: MULTIPLY_FLOPS / multiplyAdd.ms / 1e6,
};
console.log(ceiling);
const results = cases.map(({ name, unit, amount }, i) => {
  const { ms, processorMs } = times[i];
  const [top, topAmount] = unit === "GB/s" ? [copy, COPY_BYTES] : [multiplyAdd, MULTIPLY_FLOPS];
  const share = amount / ms / (topAmount / top.ms);
  const processorShare = gpu.adapter.isSoftware
    ? amount / processorMs / (topAmount / top.processorMs)
    : null;
  return { name, ms, rate: amount / ms / 1e6, unit, share, processorShare };
});
console.log("share of the ceiling by the clock, and by processor time on a software adapter");
for (const { name, ms, rate, unit, share, processorShare } of results) {
  console.log(
    name.padEnd(32) + `${ms.toFixed(3)} ms`.padStart(12) +
      `${rate.toFixed(2)} ${unit}`.padStart(18) +
      `${(100 * share).toFixed(0)} %`.padStart(7) +
      (processorShare === null ? "" : `${(100 * processorShare).toFixed(0)} %`.padStart(7)),
  );
}
writeReport(values.json, { adapter, encoding, ceiling, dispatchesPerLayer, results });
