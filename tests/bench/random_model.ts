// A Hugging Face folder of any shape with random bf16 weights: speed does not depend on what weights say.

import { join } from "node:path";
import { elementCount } from "../../lib/core/tensor.ts";
import { type TensorHeader, writeSafetensors } from "../../lib/io/safetensors.ts";
import { type ModelConfig, toHfConfig } from "../../lib/model/config.ts";
import { blockTable, rootTable, type WeightEntry } from "../../lib/model/weights.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";

const CHUNK_ELEMENTS = 1 << 20;
const TABLE_SIZE = 1 << 16;
const SCALE = 0.02;
const BF16_ONE = 0x3f80;

/** Writes config.json, model.safetensors and the tokenizer's files into `folder`. The same shape gives the same bytes. */
export async function writeRandomModel(folder: string, config: ModelConfig): Promise<void> {
  Deno.mkdirSync(folder, { recursive: true });
  const layers = Array.from({ length: config.numLayers }, (_, layer) => blockTable(config, layer));
  const tables: readonly (readonly WeightEntry[])[] = [rootTable(config), ...layers];
  const headers = tables.flat().flatMap((entry) =>
    entry.sources.map(({ name, shape }): TensorHeader => ({ name, dtype: "BF16", shape }))
  );
  await writeSafetensors(join(folder, "model.safetensors"), headers, randomWeights(headers));
  const json = JSON.stringify(toHfConfig(config, "bfloat16"), null, 2);
  Deno.writeTextFileSync(join(folder, "config.json"), `${json}\n`);
  await saveTokenizer(await llamaTokenizer(), folder, {
    addBos: true,
    modelMaxLength: config.maxSeqLen,
  });
}

/** Random numbers for matrices, ones for norms. */
async function* randomWeights(headers: readonly TensorHeader[]): AsyncGenerator<Uint8Array> {
  const table = quantileTable();
  const chunk = new Uint16Array(CHUNK_ELEMENTS);
  let state = 1;
  for (const { shape } of headers) {
    const count = elementCount(shape);
    for (let first = 0; first < count; first += CHUNK_ELEMENTS) {
      const part = chunk.subarray(0, Math.min(CHUNK_ELEMENTS, count - first));
      if (shape.length === 1) part.fill(BF16_ONE);
      else {
        for (let i = 0; i < part.length; i++) {
          // xorshift32 (Marsaglia 2003); its high bits choose the number.
          state ^= state << 13;
          state ^= state >>> 17;
          state ^= state << 5;
          part[i] = table[state >>> 16];
        }
      }
      yield new Uint8Array(part.buffer, 0, part.byteLength);
    }
  }
}

/** bf16 numbers with the quantiles of a logistic distribution: mean 0, standard deviation `SCALE`. */
function quantileTable(): Uint16Array {
  const spread = SCALE * Math.sqrt(3) / Math.PI;
  const values = new Float32Array(TABLE_SIZE);
  for (let i = 0; i < TABLE_SIZE; i++) {
    const p = (i + 0.5) / TABLE_SIZE;
    values[i] = spread * Math.log(p / (1 - p));
  }
  return Uint16Array.from(new Uint32Array(values.buffer), (word) => (word + 0x8000) >>> 16);
}
