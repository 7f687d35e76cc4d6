// Every weight of the model in one table, flat buffers cut by that table, and the stores that lend weights and
// gradients block by block. The model does not know whether a store holds them or gathers them from other devices.

import { byteLengthOf, type DType } from "../core/dtype.ts";
import type { Arena, Memory } from "../core/backend.ts";
import { carve, elementCount, type Tensor } from "../core/tensor.ts";
import { attentionWidth, type ModelConfig } from "./config.ts";

/** The weights of one layer. wqkv stacks q, k, v by rows; wGateUp stacks gate and up. */
export interface BlockWeights {
  readonly attnNorm: Tensor; // (C)
  readonly wqkv: Tensor; //     ((H+2K)·D, C)
  readonly wo: Tensor; //       (C, H·D)
  readonly mlpNorm: Tensor; //  (C)
  readonly wGateUp: Tensor; //  (2F, C)
  readonly wDown: Tensor; //    (C, F)
}

/** The weights outside the layers. With tied embeddings `lmHead` is the very tensor `embed`. */
export interface RootWeights {
  readonly embed: Tensor; //     (V, C)
  readonly finalNorm: Tensor; // (C)
  readonly lmHead: Tensor; //    (V, C)
}

/** Lends the weights of one block at a time. */
export interface WeightStore {
  readonly root: RootWeights;
  /** May start fetching a layer; layers out of range are ignored. */
  prefetch(layer: number): void;
  /** The layer's weights, valid for operations enqueued before `release`. */
  acquire(layer: number): BlockWeights;
  /** The memory behind the layer's weights may be reused. */
  release(layer: number): void;
}

/** Lends the tensors in which one block's gradients accumulate. */
export interface GradientStore {
  readonly root: RootWeights;
  /** Starts a micro-step; the first of an update zeroes the gradients. */
  begin(microStep: number): void;
  acquire(layer: number): BlockWeights;
  /** All of the layer's gradients for this micro-step are enqueued. */
  release(layer: number): void;
}

/** One tensor of Hugging Face's naming that makes up rows of one of ours. */
export interface WeightSource {
  readonly name: string;
  readonly shape: readonly number[];
}

/** One weight: its shape, the Hugging Face tensors stacked in it, and how it starts out. */
export interface WeightEntry<K extends string = string> {
  readonly key: K;
  readonly shape: readonly number[];
  readonly sources: readonly WeightSource[];
  /** Standard deviation of the initial normal distribution; null starts at one (norms). */
  readonly initialStd: number | null;
}

function entry<K extends string>(
  key: K,
  initialStd: number | null,
  sources: readonly WeightSource[],
): WeightEntry<K> {
  const [first] = sources;
  const rows = sources.reduce((sum, source) => sum + source.shape[0], 0);
  return { key, shape: [rows, ...first.shape.slice(1)], sources, initialStd };
}

/** The weights of layer `layer` in the order of their flat buffer. Initial values: the original's `_init_weights`. */
export function blockTable(config: ModelConfig, layer: number): WeightEntry<keyof BlockWeights>[] {
  const { hiddenSize: C, intermediateSize: F, numKvHeads: K, headDim: D } = config;
  const A = attentionWidth(config);
  const prefix = `model.layers.${layer}.`;
  const std = Math.sqrt(2 / 5 / C);
  const outputStd = 1 / Math.sqrt(C) / config.numLayers;
  const source = (name: string, ...shape: number[]) => ({ name: prefix + name, shape });
  return [
    entry("attnNorm", null, [source("input_layernorm.weight", C)]),
    entry("wqkv", std, [
      source("self_attn.q_proj.weight", A, C),
      source("self_attn.k_proj.weight", K * D, C),
      source("self_attn.v_proj.weight", K * D, C),
    ]),
    entry("wo", outputStd, [source("self_attn.o_proj.weight", C, A)]),
    entry("mlpNorm", null, [source("post_attention_layernorm.weight", C)]),
    entry("wGateUp", std, [
      source("mlp.gate_proj.weight", F, C),
      source("mlp.up_proj.weight", F, C),
    ]),
    entry("wDown", outputStd, [source("mlp.down_proj.weight", C, F)]),
  ];
}

/** The weights outside the layers in the order of their flat buffer; no lmHead when it is tied. */
export function rootTable(config: ModelConfig): WeightEntry<keyof RootWeights>[] {
  const { hiddenSize: C, vocabSize: V } = config;
  const std = Math.sqrt(2 / 5 / C);
  const table: WeightEntry<keyof RootWeights>[] = [
    entry("embed", std, [{ name: "model.embed_tokens.weight", shape: [V, C] }]),
    entry("finalNorm", null, [{ name: "model.norm.weight", shape: [C] }]),
  ];
  if (config.tieWordEmbeddings) return table;
  return [...table, entry("lmHead", std, [{ name: "lm_head.weight", shape: [V, C] }])];
}

/** Number of trained parameters; a tied head counts once. */
export function parameterCount(config: ModelConfig): number {
  const size = (table: readonly WeightEntry[]) =>
    table.reduce((sum, e) => sum + elementCount(e.shape), 0);
  return size(rootTable(config)) + config.numLayers * size(blockTable(config, 0));
}

/** One tensor per weight of the model, in one flat buffer for the root and one for each block. */
export interface ParameterSet extends Disposable {
  readonly root: RootWeights;
  readonly blocks: readonly BlockWeights[];
  /** The flat buffers, root first: what the optimizer, the gradient norm and checkpoints walk over. (any length) each. */
  readonly flats: readonly Tensor[];
}

// Every weight starts at a multiple of this many elements, so that vector loads are aligned on every device.
const FLAT_ALIGNMENT = 64;

function flatLength(table: readonly WeightEntry[]): number {
  return table.reduce((sum, e) => sum + paddedCount(e.shape), 0);
}

function paddedCount(shape: readonly number[]): number {
  return Math.ceil(elementCount(shape) / FLAT_ALIGNMENT) * FLAT_ALIGNMENT;
}

/** Cuts `flat` into the tensors of `table`; the padding between them stays zero. */
function cut(flat: Tensor, table: readonly WeightEntry[], prefix: string): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  let offset = 0;
  for (const { key, shape } of table) {
    const spec = { dtype: flat.dtype, shape };
    tensors.set(key, carve(flat, prefix + key, spec, byteLengthOf(flat.dtype, offset)));
    offset += paddedCount(shape);
  }
  return tensors;
}

function get(tensors: ReadonlyMap<string, Tensor>, key: string): Tensor {
  const tensor = tensors.get(key);
  if (tensor === undefined) throw new RangeError(`Cannot find weight "${key}"`);
  return tensor;
}

/** Names the tensors of a block. */
export function blockWeights(tensors: ReadonlyMap<string, Tensor>): BlockWeights {
  return {
    attnNorm: get(tensors, "attnNorm"),
    wqkv: get(tensors, "wqkv"),
    wo: get(tensors, "wo"),
    mlpNorm: get(tensors, "mlpNorm"),
    wGateUp: get(tensors, "wGateUp"),
    wDown: get(tensors, "wDown"),
  };
}

/** Names the tensors of the root; without an lmHead the head is the embedding table. */
export function rootWeights(tensors: ReadonlyMap<string, Tensor>): RootWeights {
  const embed = get(tensors, "embed");
  return {
    embed,
    finalNorm: get(tensors, "finalNorm"),
    lmHead: tensors.get("lmHead") ?? embed,
  };
}

/** Allocates zeroed tensors for every weight: parameters, gradients or optimizer moments. `label` names the arena. */
export function allocateParameters(
  memory: Memory,
  config: ModelConfig,
  label: string,
  dtype: DType,
): ParameterSet {
  const tables = Array.from({ length: config.numLayers }, (_, layer) => blockTable(config, layer));
  const root = rootTable(config);
  const specs: Record<string, { dtype: DType; shape: number[] }> = {
    root: { dtype, shape: [flatLength(root)] },
  };
  tables.forEach((table, layer) => {
    specs[`block.${layer}`] = { dtype, shape: [flatLength(table)] };
  });
  const arena: Arena<string> = memory.allocate(label, specs);
  const flats = [arena.tensors.root, ...tables.map((_, layer) => arena.tensors[`block.${layer}`])];
  return {
    root: rootWeights(cut(flats[0], root, `${label}.`)),
    blocks: tables.map((table, layer) =>
      blockWeights(cut(flats[layer + 1], table, `${label}.${layer}.`))
    ),
    flats,
    [Symbol.dispose]: () => arena[Symbol.dispose](),
  };
}

/** Lends weights that all lie on this device. */
export function residentWeights(
  set: { readonly root: RootWeights; readonly blocks: readonly BlockWeights[] },
): WeightStore {
  return {
    root: set.root,
    prefetch: () => {},
    acquire: (layer) => set.blocks[layer],
    release: () => {},
  };
}

/** Lends gradients that all lie on this device. */
export function residentGradients(memory: Memory, set: ParameterSet): GradientStore {
  return {
    root: set.root,
    begin: (microStep) => {
      if (microStep === 0) { for (const flat of set.flats) memory.fill(flat, 0); }
    },
    acquire: (layer) => set.blocks[layer],
    release: () => {},
  };
}
