// Where every intermediate lives: two memory plans for one block function. Training gives each layer its own set (or
// shares what is recomputed), inference gives every layer the same set.

import type { Arena, Backend } from "../core/backend.ts";
import { reshape, rows, type Tensor, type TensorSpec } from "../core/tensor.ts";
import { attentionWidth, type ModelConfig, qkvWidth } from "./config.ts";

/** What one block reads and writes, in the order of computation. Null fields serve only the backward pass. */
export interface BlockActivations {
  readonly input: Tensor; //             (B, T, C) the residual stream entering the block
  readonly attnInRstd: Tensor | null; // (N) f32
  readonly attnIn: Tensor; //            (B, T, C)
  readonly qkv: Tensor; //               (B, T, H+2K, D)
  readonly attnLse: Tensor | null; //    (B, H, T) f32
  readonly attnOut: Tensor; //           (B, T, H, D)
  readonly residual: Tensor; //          (B, T, C) input + attention
  readonly mlpInRstd: Tensor | null; //  (N) f32
  readonly mlpIn: Tensor; //             (B, T, C)
  readonly gateUp: Tensor; //            (B, T, 2F)
  readonly swiglu: Tensor; //            (B, T, F)
  readonly output: Tensor; //            (B, T, C) residual + MLP: the next block's input
}

/** The intermediates of one forward pass over (B, T) tokens. */
export interface Activations {
  readonly positions: Tensor; //         (B, T) i32
  readonly ropeTable: Tensor; //         (S, D) f32, S > every position
  readonly blocks: readonly BlockActivations[]; // one per layer
  readonly hiddenRstd: Tensor | null; // (N) f32
  readonly hidden: Tensor; //            (B, T, C) after the final norm
}

/** The gradients that flow between operations of the backward pass; every layer uses the same set. */
export interface ActivationGradients {
  readonly dResidual: Tensor; // (B, T, C) the running gradient of the residual stream
  readonly dNormed: Tensor; //   (B, T, C) of a norm's output, and of the attention output when shapes agree
  readonly dAttnOut: Tensor; //  (B, T, H, D)
  readonly dQkv: Tensor; //      (B, T, H+2K, D)
  readonly dSwiglu: Tensor; //   (B, T, F)
}

/** What the backward pass computes again instead of keeping: nothing; norm outputs and swiglu; or the whole block. */
export type Recompute = "none" | "cheap" | "block";

/** Everything one training micro-step needs besides weights and gradients of weights. */
export interface TrainingPlan extends Activations, Disposable {
  readonly recompute: Recompute;
  readonly gradients: ActivationGradients;
  readonly tokens: Tensor; //  (B, T) i32
  readonly targets: Tensor; // (B, T) i32; negative is ignored
  readonly logits: Tensor; //  (head rows, V): the head runs in chunks of this many rows
}

type BlockKey = Exclude<keyof BlockActivations, "output">;

/** The shape of every intermediate of a block, and whether each recompute mode keeps it for the backward pass. */
function blockSpecs(
  backend: Backend,
  config: ModelConfig,
  B: number,
  T: number,
): Record<BlockKey, TensorSpec & { readonly keptBy: readonly Recompute[] }> {
  const dtype = backend.precision.compute;
  const { hiddenSize: C, intermediateSize: F, numHeads: H, numKvHeads: K, headDim: D } = config;
  const always: readonly Recompute[] = ["none", "cheap", "block"];
  const heavy: readonly Recompute[] = ["none", "cheap"];
  const all: readonly Recompute[] = ["none"];
  return {
    input: { dtype, shape: [B, T, C], keptBy: always },
    attnInRstd: { dtype: "f32", shape: [B * T], keptBy: heavy },
    attnIn: { dtype, shape: [B, T, C], keptBy: all },
    qkv: { dtype, shape: [B, T, H + 2 * K, D], keptBy: heavy },
    attnLse: { dtype: "f32", shape: [B, H, T], keptBy: heavy },
    attnOut: { dtype, shape: [B, T, H, D], keptBy: heavy },
    residual: { dtype, shape: [B, T, C], keptBy: heavy },
    mlpInRstd: { dtype: "f32", shape: [B * T], keptBy: heavy },
    mlpIn: { dtype, shape: [B, T, C], keptBy: all },
    gateUp: { dtype, shape: [B, T, 2 * F], keptBy: heavy },
    swiglu: { dtype, shape: [B, T, F], keptBy: all },
  };
}

/**
 * Rows p = [cos(p·θ_j) …, sin(p·θ_j) …] with θ_j = theta^(−2j/D) / factor, for p < length: (length, D). Computed in
 * f64, rounded once.
 */
export function ropeTable(config: ModelConfig, length: number): Float32Array {
  const half = config.headDim / 2;
  const table = new Float32Array(length * config.headDim);
  for (let j = 0; j < half; j++) {
    const frequency = config.ropeTheta ** (-j / half) / config.ropeFactor;
    for (let p = 0; p < length; p++) {
      table[p * config.headDim + j] = Math.cos(p * frequency);
      table[p * config.headDim + half + j] = Math.sin(p * frequency);
    }
  }
  return table;
}

function consecutivePositions(B: number, T: number): Int32Array {
  return Int32Array.from({ length: B * T }, (_, n) => n % T);
}

// Logits that exist at once. A matrix product may rearrange the whole head once a chunk: with 32 MiB a step of the 15M
// model takes 3 to 9 percent longer. A chunk fits into one binding of 128 MiB on any device.
const HEAD_CHUNK_BYTES = 128 << 20;

/** Rows in a chunk of the LM head for N rows in all. */
export function headRows(config: ModelConfig, N: number): number {
  const fitting = Math.floor(HEAD_CHUNK_BYTES / (4 * config.vocabSize));
  return Math.min(N, Math.max(64, fitting - fitting % 64));
}

/** Allocates the intermediates of training on B sequences of T tokens. */
export function trainingPlan(
  backend: Backend,
  config: ModelConfig,
  B: number,
  T: number,
  recompute: Recompute,
): TrainingPlan {
  const dtype = backend.precision.compute;
  const { hiddenSize: C, intermediateSize: F, vocabSize: V, headDim: D } = config;
  const specs = blockSpecs(backend, config, B, T);
  const layerSpecs: Record<string, TensorSpec> = {};
  const sharedSpecs: Record<string, TensorSpec> = {};
  for (const [key, spec] of Object.entries(specs)) {
    if (!spec.keptBy.includes(recompute)) sharedSpecs[key] = spec;
    else for (let l = 0; l < config.numLayers; l++) layerSpecs[`${l}.${key}`] = spec;
  }
  using arenas = new DisposableStack();
  const kept: Arena<string> = arenas.use(backend.allocate("activations", layerSpecs));
  const shared: Arena<string> = arenas.use(
    backend.allocate("activations shared by layers", sharedSpecs),
  );
  const passing = arenas.use(backend.allocate("activation gradients and batch", {
    last: { dtype, shape: [B, T, C] },
    hidden: { dtype, shape: [B, T, C] },
    hiddenRstd: { dtype: "f32", shape: [B * T] },
    logits: { dtype, shape: [headRows(config, B * T), V] },
    dResidual: { dtype, shape: [B, T, C] },
    dNormed: { dtype, shape: [B, T, C] },
    dAttnOut: { dtype, shape: [B, T, config.numHeads, D] },
    dQkv: { dtype, shape: specs.qkv.shape },
    dSwiglu: { dtype, shape: [B, T, F] },
    tokens: { dtype: "i32", shape: [B, T] },
    targets: { dtype: "i32", shape: [B, T] },
    positions: { dtype: "i32", shape: [B, T] },
    ropeTable: { dtype: "f32", shape: [T, D] },
  }));
  const { dResidual, dNormed, dAttnOut, dQkv, dSwiglu, last, ...rest } = passing.tensors;
  backend.write(rest.positions, consecutivePositions(B, T));
  backend.write(rest.ropeTable, ropeTable(config, T));
  const at = (layer: number, key: BlockKey) =>
    kept.tensors[`${layer}.${key}`] ?? shared.tensors[key];
  const isLast = (layer: number) => layer + 1 === config.numLayers;
  const blocks = Array.from({ length: config.numLayers }, (_, layer) => ({
    input: at(layer, "input"),
    attnInRstd: at(layer, "attnInRstd"),
    attnIn: at(layer, "attnIn"),
    qkv: at(layer, "qkv"),
    attnLse: at(layer, "attnLse"),
    attnOut: at(layer, "attnOut"),
    residual: at(layer, "residual"),
    mlpInRstd: at(layer, "mlpInRstd"),
    mlpIn: at(layer, "mlpIn"),
    gateUp: at(layer, "gateUp"),
    swiglu: at(layer, "swiglu"),
    output: isLast(layer) ? last : at(layer + 1, "input"),
  }));
  const owned = arenas.move();
  return {
    ...rest,
    blocks,
    recompute,
    gradients: { dResidual, dNormed, dAttnOut, dQkv, dSwiglu },
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
}

/** Intermediates for generating: allocated once for `maxRows` tokens at a time, viewed at any smaller (B, T). */
export interface InferencePlan extends Disposable {
  /** The views for B sequences of T tokens, B·T <= maxRows. The same object for the same (B, T). */
  at(B: number, T: number): Activations;
}

/** Allocates the intermediates of inference; positions must stay below `maxPositions`. */
export function inferencePlan(
  backend: Backend,
  config: ModelConfig,
  maxRows: number,
  maxPositions: number,
): InferencePlan {
  const dtype = backend.precision.compute;
  const { hiddenSize: C, intermediateSize: F } = config;
  const arena = backend.allocate("activations", {
    stream: { dtype, shape: [maxRows, C] },
    normed: { dtype, shape: [maxRows, C] },
    qkv: { dtype, shape: [maxRows, qkvWidth(config)] },
    attnOut: { dtype, shape: [maxRows, attentionWidth(config)] },
    gateUp: { dtype, shape: [maxRows, 2 * F] },
    swiglu: { dtype, shape: [maxRows, F] },
    positions: { dtype: "i32", shape: [maxRows] },
    ropeTable: { dtype: "f32", shape: [maxPositions, config.headDim] },
  });
  backend.write(arena.tensors.ropeTable, ropeTable(config, maxPositions));
  const views = new Map<string, Activations>();
  return {
    at(B, T) {
      const key = `${B}x${T}`;
      const known = views.get(key);
      if (known !== undefined) return known;
      const made = inferenceViews(arena.tensors, config, B, T);
      views.set(key, made);
      return made;
    },
    [Symbol.dispose]: () => arena[Symbol.dispose](),
  };
}

type InferenceKey =
  | "stream"
  | "normed"
  | "qkv"
  | "attnOut"
  | "gateUp"
  | "swiglu"
  | "positions"
  | "ropeTable";

function inferenceViews(
  tensors: Readonly<Record<InferenceKey, Tensor>>,
  config: ModelConfig,
  B: number,
  T: number,
): Activations {
  const { hiddenSize: C, intermediateSize: F, numHeads: H, numKvHeads: K, headDim: D } = config;
  const view = (key: InferenceKey, ...shape: number[]) =>
    reshape(rows(tensors[key], 0, B * T), shape);
  const stream = view("stream", B, T, C);
  const normed = view("normed", B, T, C);
  const block: BlockActivations = {
    input: stream,
    attnInRstd: null,
    attnIn: normed,
    qkv: view("qkv", B, T, H + 2 * K, D),
    attnLse: null,
    attnOut: view("attnOut", B, T, H, D),
    residual: stream,
    mlpInRstd: null,
    mlpIn: normed,
    gateUp: view("gateUp", B, T, 2 * F),
    swiglu: view("swiglu", B, T, F),
    output: stream,
  };
  return {
    positions: view("positions", B, T),
    ropeTable: tensors.ropeTable,
    blocks: Array.from({ length: config.numLayers }, () => block),
    hiddenRstd: null,
    hidden: normed,
  };
}
