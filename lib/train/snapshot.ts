// The tensors of a checkpoint and what describes them: a Hugging Face model, and beside it the moments of its optimizer.

import { join } from "node:path";
import type { Backend } from "../core/backend.ts";
import { loadWeights, saveWeights, type WeightSlot } from "../io/hf_weights.ts";
import { type ModelConfig, toHfConfig } from "../model/config.ts";
import { blockTable, type ParameterSet, rootTable, type WeightEntry } from "../model/weights.ts";
import type { Trainer } from "./trainer.ts";

const MODEL_FILE = "model.safetensors";
const OPTIMIZER_FILE = "optimizer.safetensors";

/** The tensors of a parameter set under their Hugging Face names, each with `prefix` before it. */
export function weightSlots(config: ModelConfig, set: ParameterSet, prefix = ""): WeightSlot[] {
  const slot = ({ sources }: WeightEntry, tensor: WeightSlot["tensor"]): WeightSlot => ({
    tensor,
    sources: sources.map(({ name, shape }) => ({ name: prefix + name, shape })),
  });
  return [
    ...rootTable(config).map((entry) => slot(entry, set.root[entry.key])),
    ...set.blocks.flatMap((block, layer) =>
      blockTable(config, layer).map((entry) => slot(entry, block[entry.key]))
    ),
  ];
}

function optimizerSlots(trainer: Trainer): WeightSlot[] {
  const { config } = trainer.model;
  const { m, v } = trainer.optimizer;
  return [...weightSlots(config, m, "m."), ...weightSlots(config, v, "v.")];
}

/** Writes model and moments into an existing folder; weights in f32. */
export async function saveSnapshot(
  backend: Backend,
  trainer: Trainer,
  folder: string,
): Promise<void> {
  const model = trainer.model.config;
  await saveWeights(backend, join(folder, MODEL_FILE), weightSlots(model, trainer.params));
  await saveWeights(backend, join(folder, OPTIMIZER_FILE), optimizerSlots(trainer));
  writeJson(join(folder, "config.json"), toHfConfig(model, "float32"));
  writeJson(join(folder, "generation_config.json"), {
    bos_token_id: model.bosId,
    eos_token_id: model.eosIds.length === 1 ? model.eosIds[0] : model.eosIds,
    max_length: model.maxSeqLen,
  });
}

/** Fills parameters and moments from a checkpoint folder. */
export async function loadSnapshot(
  backend: Backend,
  trainer: Trainer,
  folder: string,
): Promise<void> {
  await loadWeights(backend, folder, weightSlots(trainer.model.config, trainer.params));
  await loadWeights(backend, join(folder, OPTIMIZER_FILE), optimizerSlots(trainer));
  trainer.roundParameters();
}

function writeJson(path: string, value: unknown): void {
  Deno.writeTextFileSync(path, JSON.stringify(value, null, 2) + "\n");
}
