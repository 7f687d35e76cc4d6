// Makes what the benches of generation need: a Hugging Face folder with random bf16 weights and, for llama.cpp, the same
// weights as GGUF files. Quantized GGUF files hold matrices of one type only, embedding and head included.
//
//   deno run -A tests/bench/make_model.ts FOLDER [--model configs/models/tinyllama-1.1b.yaml]
//     [--gguf bf16,q8_0,q4_0]          writes FOLDER/bf16.gguf and so on

// deno-lint-ignore-file no-console
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { byteLengthOf } from "../../lib/core/dtype.ts";
import { UsageError } from "../../lib/core/errors.ts";
import { elementCount } from "../../lib/core/tensor.ts";
import { readModelConfig } from "../../lib/generate/load_model.ts";
import { openWeightFiles, type WeightFiles } from "../../lib/io/weight_files.ts";
import type { ModelConfig } from "../../lib/model/config.ts";
import { llamaVocabulary } from "../../lib/tokenizer/llama_vocabulary.ts";
import type { PieceKind } from "../../lib/tokenizer/vocabulary.ts";
import { type GgufTensor, type GgufType, type GgufValue, writeGguf } from "./gguf_file.ts";
import { writeRandomModel } from "./random_model.ts";
import { readModelFile } from "./synthetic_training.ts";

/** What a matrix may be stored as. */
type MatrixType = "bf16" | "q8_0" | "q4_0";
const MATRIX_TYPES: readonly MatrixType[] = ["bf16", "q8_0", "q4_0"];
/** llama.cpp's number for files of a type. */
const FILE_TYPES = { bf16: 32, q8_0: 7, q4_0: 2 } as const;
const PIECE_TYPES: Readonly<Record<PieceKind, number>> = {
  normal: 1,
  unknown: 2,
  control: 3,
  "user-defined": 4,
  unused: 5,
  byte: 6,
};
const ROW_BATCH = 1024;

const ROOT_NAMES: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};
const LAYER_NAMES: Readonly<Record<string, string>> = {
  "input_layernorm": "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

/** Hugging Face's name of a weight in llama.cpp's words. */
function ggufName(name: string): string {
  const layer = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name);
  return layer === null ? ROOT_NAMES[name] : `blk.${layer[1]}.${LAYER_NAMES[layer[2]]}.weight`;
}

async function metadataOf(
  config: ModelConfig,
  type: MatrixType,
): Promise<Record<string, GgufValue>> {
  const { pieces, kinds, bosId, eosId, unkId } = await llamaVocabulary();
  return {
    "general.architecture": "llama",
    "general.name": "random weights",
    "general.file_type": { u32: FILE_TYPES[type] },
    "general.quantization_version": { u32: 2 },
    "llama.vocab_size": { u32: config.vocabSize },
    "llama.context_length": { u32: config.maxSeqLen },
    "llama.embedding_length": { u32: config.hiddenSize },
    "llama.block_count": { u32: config.numLayers },
    "llama.feed_forward_length": { u32: config.intermediateSize },
    "llama.attention.head_count": { u32: config.numHeads },
    "llama.attention.head_count_kv": { u32: config.numKvHeads },
    "llama.attention.layer_norm_rms_epsilon": { f32: config.rmsNormEps },
    "llama.rope.dimension_count": { u32: config.headDim },
    "llama.rope.freq_base": { f32: config.ropeTheta },
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": pieces,
    "tokenizer.ggml.scores": { f32s: pieces.map((_, id) => -id) },
    "tokenizer.ggml.token_type": { i32s: kinds.map((kind) => PIECE_TYPES[kind]) },
    "tokenizer.ggml.bos_token_id": { u32: bosId },
    "tokenizer.ggml.eos_token_id": { u32: eosId },
    "tokenizer.ggml.unknown_token_id": { u32: unkId },
    "tokenizer.ggml.add_bos_token": true,
  };
}

/** The rows of a matrix as bf16, in batches, from a Hugging Face file. */
function* rowsOf(files: WeightFiles, name: string): Generator<Uint8Array> {
  const located = files.tensors.get(name);
  if (located === undefined) throw new RangeError(`Cannot find "${name}" in ${files.path}`);
  const { tensor, file } = located;
  const rowBytes = byteLengthOf("bf16", tensor.shape[tensor.shape.length - 1]);
  const step = ROW_BATCH * rowBytes;
  for (let first = 0; first < tensor.byteLength; first += step) {
    const bytes = new Uint8Array(Math.min(step, tensor.byteLength - first));
    file.read(tensor, first, bytes);
    yield bytes;
  }
}

/**
 * Query and key rows in the order llama.cpp rotates them: pairs lie side by side, where Hugging Face's lie half a head
 * apart. Batches hold whole heads.
 */
function interleave(bytes: Uint8Array, headDim: number, hiddenSize: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  const rowBytes = byteLengthOf("bf16", hiddenSize);
  for (let row = 0; row < bytes.length / rowBytes; row++) {
    const inHead = row % headDim;
    const half = inHead & 1, pair = inHead >> 1;
    const source = row - inHead + half * (headDim / 2) + pair;
    out.set(bytes.subarray(source * rowBytes, (source + 1) * rowBytes), row * rowBytes);
  }
  return out;
}

async function convert(
  backend: Backend,
  bytes: Uint8Array,
  width: number,
  type: GgufType,
): Promise<Uint8Array> {
  if (type === "bf16") return bytes;
  const shape = [bytes.length / byteLengthOf("bf16", width), width];
  using arena = backend.allocate("conversion", {
    source: { dtype: "bf16", shape },
    target: { dtype: type, shape },
  });
  const { source, target } = arena.tensors;
  backend.write(source, bytes);
  if (type === "f32") backend.cast(target, source);
  else backend.quantize(target, source);
  return new Uint8Array(await backend.read(target));
}

function ggufTensors(
  backend: Backend,
  config: ModelConfig,
  files: WeightFiles,
  matrixType: MatrixType,
): GgufTensor[] {
  return [...files.tensors].map(([name, { tensor: { shape } }]): GgufTensor => {
    const type = shape.length === 1 ? "f32" : matrixType;
    const isRotated = /self_attn\.[qk]_proj/.test(name);
    return {
      name: ggufName(name),
      type,
      shape,
      byteLength: byteLengthOf(type, elementCount(shape)),
      async *read() {
        for (const bytes of rowsOf(files, name)) {
          const rows = isRotated ? interleave(bytes, config.headDim, config.hiddenSize) : bytes;
          yield await convert(backend, rows, shape[shape.length - 1], type);
        }
      },
    };
  });
}

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    model: { type: "string", default: "configs/models/tinyllama-1.1b.yaml" },
    gguf: { type: "string", default: "" },
  },
});
const [folder] = positionals;
if (folder === undefined) throw new UsageError("Cannot make a model: FOLDER is missing");
const types = values.gguf.split(",").filter((type) => type !== "").map((text) => {
  const type = MATRIX_TYPES.find((one) => one === text);
  if (type !== undefined) return type;
  throw new UsageError(`Cannot write GGUF of ${text}: expected ${MATRIX_TYPES.join(", ")}`);
});
await writeRandomModel(folder, readModelFile(values.model));
console.log(`${folder}: Hugging Face folder, bf16`);
const config = readModelConfig(folder);
using files = openWeightFiles(folder);
using backend = await openBackend({ device: "cpu", threads: null, matmul: "f32" });
for (const type of types) {
  const path = join(folder, `${type}.gguf`);
  const tensors = ggufTensors(backend, config, files, type);
  await writeGguf(path, await metadataOf(config, type), tensors);
  console.log(`${path}: the same weights, ${type}`);
}
