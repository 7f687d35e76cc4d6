// Generation on a CUDA card: one sequence after a prompt, and the passage of a long prompt, beside PyTorch and beside what
// the device can read. A card of compute capability 9.0 and later decodes with dependent launches as well.

import { byteLength, elementCount } from "../../lib/core/tensor.ts";
import { decode, type Sequence } from "../../lib/generate/decode.ts";
import { Engine } from "../../lib/generate/engine.ts";
import { DEFAULT_SAMPLING } from "../../lib/generate/sampling.ts";
import type { ModelConfig } from "../../lib/model/config.ts";
import { matmulParameters } from "../../lib/model/flops.ts";
import { attentionWidth } from "../../lib/model/config.ts";
import { allocateParameters, parameterCount, residentWeights } from "../../lib/model/weights.ts";
import { openBenchBackend, withSwitch } from "./gpu_device.ts";
import { type Ceilings, Measure } from "./gpu_measure.ts";
import { figureOf, peerNote, ratio, runTorch } from "./gpu_peer.ts";
import { randomizeParameters } from "./gpu_random.ts";
import type { BenchSizes } from "./gpu_sizes.ts";
import type { Table } from "./gpu_table.ts";
import { median } from "./median.ts";

const ROUNDS = 3;
const BF16_BYTES = 2;

/** Asks the backend for kernels that begin before those they depend on have ended. */
const DEPENDENT = "TINYLLAMA_CUDA_PDL";
const DEPENDENT_MAJOR = 9;

/** Medians over rounds, in seconds of the host's clock. */
interface GenerationFigures {
  readonly prefillSeconds: number;
  readonly tokenSeconds: number;
  readonly ceilings: Ceilings;
  /** Major number of the card's compute capability. */
  readonly major: number;
}

/** Tables of the part `decode`. `torch` is a Python with PyTorch. */
export async function generationTables(
  sizes: BenchSizes,
  torch: string | undefined,
): Promise<Table[]> {
  const measure = () => measureGeneration(sizes);
  const { prefillSeconds, tokenSeconds, ceilings, major } = await withSwitch(
    DEPENDENT,
    "0",
    measure,
  );
  const dependent = major < DEPENDENT_MAJOR ? null : await withSwitch(DEPENDENT, "1", measure);
  const peer = await runTorch(torch, "decode", sizes);
  const { model, depth, fresh, prompt } = sizes;
  const prefillRate = prompt / prefillSeconds, decodeRate = 1 / tokenSeconds;
  const tflops = prefillFlops(model, prompt) / prefillSeconds / 1e12;
  const gbs = bytesPerToken(model, depth + fresh / 2) / tokenSeconds / 1e9;
  const peerPrefill = figureOf(peer, "prefill_tokens_per_second");
  const peerDecode = figureOf(peer, "decode_tokens_per_second");
  const shareOfCopy = 100 * gbs / ceilings.copyGbs;
  const shareOfProduct = 100 * tflops / ceilings.productTflops;
  return [{
    title: `Generation with ${sizes.name}, one sequence, bf16`,
    columns: ["", "tinyllama", "PyTorch", "ratio", "goal"],
    rows: [
      ["decoding, tokens/s", decodeRate, peerDecode, ratio(decodeRate, peerDecode), "ratio 1"],
      ...dependent === null ? [] : [dependentRow(1 / dependent.tokenSeconds, peerDecode)],
      ["decoding, GB/s of weights and cache", gbs, null, null, null],
      ["share of the copy bandwidth, %", shareOfCopy, null, null, "85"],
      ["prefill, tokens/s", prefillRate, peerPrefill, ratio(prefillRate, peerPrefill), null],
      ["prefill, TFLOP/s", tflops, null, null, null],
      ["share of the product's rate, %", shareOfProduct, null, null, "50"],
    ],
    notes: [
      peerNote(peer),
      `Decoding: ${fresh} tokens after ${depth}. Prefill: ${prompt} tokens until the first is drawn. ` +
      `Medians of ${ROUNDS} rounds. Ceilings: a copy of ${
        ceilings.copyGbs.toFixed(0)
      } GB/s (read and ` +
      `written), a product of ${ceilings.productTflops.toFixed(0)} TFLOP/s.`,
    ],
  }];
}

function dependentRow(rate: number, peer: number | null) {
  return [`decoding with ${DEPENDENT}=1, tokens/s`, rate, peer, ratio(rate, peer), null];
}

/** Weights that a token reads, all but the embedding table, and the cache of `position` tokens. */
function bytesPerToken(model: ModelConfig, position: number): number {
  const { vocabSize: V, hiddenSize: C, numLayers, numKvHeads: K, headDim: D } = model;
  const table = model.tieWordEmbeddings ? 0 : byteLength({ dtype: "bf16", shape: [V, C] });
  return BF16_BYTES * parameterCount(model) - table + BF16_BYTES * 2 * numLayers * K * D * position;
}

/** Products of all tokens but the head, which only the last one passes, and causal attention. */
function prefillFlops(model: ModelConfig, T: number): number {
  const head = elementCount([model.vocabSize, model.hiddenSize]);
  const attention = 2 * model.numLayers * T * T * attentionWidth(model);
  return 2 * T * (matmulParameters(model) - head) + 2 * head + attention;
}

async function measureGeneration(sizes: BenchSizes): Promise<GenerationFigures> {
  const { depth, fresh, prompt } = sizes;
  const contextLength = Math.max(prompt, depth + fresh) + 1;
  const config = { ...sizes.model, maxSeqLen: contextLength };
  using bench = await openBenchBackend();
  const { backend } = bench;
  const prefills: number[] = [], tokens: number[] = [];
  {
    using set = allocateParameters(backend, config, "weights", "bf16");
    randomizeParameters(backend, set);
    const sampling = { ...DEFAULT_SAMPLING, temperature: 0 };
    const model = { config, backend, weights: residentWeights(set) };
    using engine = new Engine(model, { batchSize: 1, contextLength, sampling });
    for (let round = 0; round <= ROUNDS; round++) {
      const start = performance.now();
      await drawTimes(engine, prompt, 1);
      prefills.push((performance.now() - start) / 1000);
      const times = await drawTimes(engine, depth, fresh);
      tokens.push((times[times.length - 1] - times[0]) / 1000 / (fresh - 1));
    }
  }
  using measure = new Measure(bench, sizes);
  return {
    prefillSeconds: median(prefills.slice(1)),
    tokenSeconds: median(tokens.slice(1)),
    ceilings: await measure.ceilings(),
    major: bench.device.capability[0],
  };
}

/** When each of `count` tokens after a prompt of `length` was there, in milliseconds. */
async function drawTimes(engine: Engine, length: number, count: number): Promise<number[]> {
  const sequence: Sequence = {
    prompt: Int32Array.from({ length }, (_, i) => i * 7919 % engine.vocabSize),
    ...{ maxTokens: count, stream: 0, endsWith: () => false },
  };
  const times: number[] = [];
  for await (const _ of decode(engine, [sequence], { seed: 0 })) times.push(performance.now());
  return times;
}
