// deno-lint-ignore-file no-console
// llama.cpp, as the npm package node-llama-cpp ships it, on the same work as generate_bench.ts; one JSON line.
//
//   npm install --prefix FOLDER node-llama-cpp
//   node llama_cpp.mjs FOLDER MODEL.gguf [--threads 2] [--prompt 512] [--depth 128] [--new 128] [--rounds 3]
//   node llama_cpp.mjs FOLDER MODEL.gguf --start         load, take a prompt of five tokens, draw one, end

import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals: [folder, modelPath] } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "2" },
    prompt: { type: "string", default: "512" },
    depth: { type: "string", default: "128" },
    new: { type: "string", default: "128" },
    rounds: { type: "string", default: "3" },
    start: { type: "boolean", default: false },
  },
});
const threads = Number(values.threads);
const entry = join(resolve(folder), "node_modules/node-llama-cpp/dist/index.js");
const { getLlama } = await import(pathToFileURL(entry).href);
const llama = await getLlama({
  gpu: false,
  build: "never",
  maxThreads: threads,
  logLevel: "error",
});
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({
  contextSize: values.start ? 512 : 2048,
  batchSize: 512,
  threads,
});
const sequence = context.getSequence();

const peer = `llama.cpp ${llama.llamaCppRelease.release}`;

// The ids generate_bench.ts uses.
const promptIds = (count) =>
  Array.from({ length: count }, (_, i) => 300 + i * 7919 % (32000 - 300));

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

/** Passes the ids through the model and draws `count` tokens greedily; returns them and when each was there. */
async function draw(ids, count) {
  const drawn = [], times = [];
  for await (const id of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
    drawn.push(id);
    times.push(performance.now());
    if (drawn.length === count) break;
  }
  return { drawn, times };
}

if (values.start) {
  await draw(promptIds(5), 1);
  console.log(JSON.stringify({ peer, since_start_ms: performance.now() }));
} else {
  const fresh = Number(values.new), prefill = [], decode = [];
  let ids = [];
  for (let round = 0; round <= Number(values.rounds); round++) {
    await sequence.clearHistory();
    const start = performance.now();
    await draw(promptIds(Number(values.prompt)), 1);
    const prefillMs = performance.now() - start;
    await sequence.clearHistory();
    const { drawn, times } = await draw(promptIds(Number(values.depth)), fresh + 1);
    ids = drawn;
    if (round === 0) continue; // caches and pages are cold
    prefill.push(Number(values.prompt) / prefillMs * 1000);
    decode.push(fresh / (times[fresh] - times[0]) * 1000);
  }
  console.log(JSON.stringify({
    peer,
    prefill_tokens_per_second: median(prefill),
    decode_tokens_per_second: median(decode),
    first_ids: ids.slice(0, 8),
  }));
}
process.exit(0);
