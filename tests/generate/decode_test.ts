// The engine and its batches, by ids: against the full forward pass without a cache, alone and together.

import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { decode } from "../../lib/generate/decode.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { DeviceError } from "../../lib/core/errors.ts";
import { Engine } from "../../lib/generate/engine.ts";
import { DEFAULT_SAMPLING } from "../../lib/generate/sampling.ts";
import {
  draw,
  type Drawn,
  GREEDY,
  greedyWithoutCache,
  logSoftmax,
  openSmall,
  promptOf,
  SMALL_MODEL,
  smallOn,
} from "./generating_setup.ts";
import { onWebgpu } from "../backend/webgpu_adapter.ts";
import { computeLogits } from "../../lib/generate/logits.ts";

const HOT = { ...DEFAULT_SAMPLING, temperature: 1, topP: 1 };

function assertClose(actual: readonly number[], expected: readonly number[], tolerance: number) {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(
      Math.abs(actual[i] - expected[i]) <= tolerance,
      `element ${i}: ${actual[i]}, expected ${expected[i]} within ${tolerance}`,
    );
  }
}

Deno.test("greedy decoding with the cache is the argmax of the full forward pass", async () => {
  using small = await openSmall();
  for (const length of [1, 9, 600]) {
    const prompt = promptOf(length, length);
    const [drawn] = await draw(small.model, [prompt], { maxTokens: 8 });
    const expected = await greedyWithoutCache(small.model, prompt, 8);
    assert.deepEqual(drawn.ids, expected.ids, `prompt of ${length}`);
    assertClose(drawn.logProbs, expected.logProbs, 1e-4);
    assert.equal(drawn.end, "length");
  }
});

Deno.test("log-probabilities are those of the full forward pass, not of the drawing", async () => {
  using small = await openSmall();
  const prompt = promptOf(3, 20);
  const sampling = { temperature: 0.5, topK: 5, topP: 0.9, minP: 0.01, repetitionPenalty: 1.5 };
  const [drawn] = await draw(small.model, [prompt], { sampling, maxTokens: 10 });
  const V = SMALL_MODEL.vocabSize;
  const logits = await computeLogits(small.model, Int32Array.of(...prompt, ...drawn.ids));
  const expected = drawn.ids.map((id, i) => {
    const row = prompt.length - 1 + i;
    return logSoftmax(logits.subarray(row * V, (row + 1) * V))[id];
  });
  assertClose(drawn.logProbs, expected, 1e-4);
});

Deno.test("different prompts in a batch get what each gets alone", async () => {
  using small = await openSmall();
  const lengths = [5, 1, 17, 30, 2, 9, 560];
  const prompts = lengths.map((length, index) => promptOf(index, length));
  for (const sampling of [GREEDY, HOT, { ...HOT, repetitionPenalty: 1.3, topK: 20 }]) {
    const alone: Drawn[] = [];
    for (const [index, prompt] of prompts.entries()) {
      alone.push(...await draw(small.model, [prompt], { sampling, streams: [index] }));
    }
    for (const batchSize of [prompts.length, 3]) {
      const together = await draw(small.model, prompts, { sampling, batchSize });
      assert.deepEqual(together.map(({ ids }) => ids), alone.map(({ ids }) => ids));
      together.forEach(({ logProbs }, i) => assertClose(logProbs, alone[i].logProbs, 1e-4));
    }
  }
});

Deno.test("a slot freed by an end token serves the next prompt as if it were the first", async () => {
  using small = await openSmall();
  const prompts = [4, 11, 3, 8, 6].map((length, index) => promptOf(index, length));
  const free = await draw(small.model, prompts, { maxTokens: 20, batchSize: 1 });
  const endIds = [free[0].ids[3], free[2].ids[6]];
  const expected = free.map(({ ids }) => {
    const last = ids.findIndex((id) => endIds.includes(id));
    return { ids: last < 0 ? ids : ids.slice(0, last + 1), end: last < 0 ? "length" : "sequence" };
  });
  assert.ok(expected.some(({ end }) => end === "sequence"));
  assert.ok(expected.some(({ end }) => end === "length"));
  for (const batchSize of [1, 2, 5]) {
    const drawn = await draw(small.model, prompts, { maxTokens: 20, batchSize, endIds });
    assert.deepEqual(drawn.map(({ ids, end }) => ({ ids, end })), expected);
  }
});

Deno.test("enqueueing ahead on an asynchronous device changes nothing", async () => {
  using small = await openSmall();
  const { backend } = small;
  const prompts = [4, 11, 3, 8, 25].map((length, index) => promptOf(index, length));
  const free = await draw(small.model, prompts, { sampling: HOT, maxTokens: 20 });
  const endIds = [free[0].ids[3]];
  const settings = { sampling: HOT, contextLength: 32, maxTokens: 20, batchSize: 2, endIds };
  const expected = await draw(small.model, prompts, settings);
  for (const waitsForAll of [false, true]) {
    // Order is that of an asynchronous queue; only the waiting differs.
    const ahead = { ...backend, info: { ...backend.info, isAsynchronous: true, waitsForAll } };
    assert.deepEqual(await draw({ ...small.model, backend: ahead }, prompts, settings), expected);
  }
  assert.deepEqual(
    new Set(expected.map(({ end }) => end)),
    new Set(["sequence", "length", "context"]),
  );
});

onWebgpu("the next step is enqueued before a token is waited for", async (backend) => {
  const { model } = smallOn(backend);
  let enqueued = 0;
  const watched: Backend = {
    ...backend,
    read(source) {
      enqueued++;
      return backend.read(source);
    },
  };
  const enqueuedWhenWaiting: number[] = [];
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = function (...args) {
    enqueuedWhenWaiting.push(enqueued);
    return mapAsync.apply(this, args);
  };
  try {
    await draw({ ...model, backend: watched }, [promptOf(0, 4)], { maxTokens: 4 });
  } finally {
    GPUBuffer.prototype.mapAsync = mapAsync;
  }
  assert.deepEqual(enqueuedWhenWaiting, [2, 2, 4, 4]);
});

Deno.test("a token that fails while nobody waits for it is an error where its turn comes", async () => {
  using small = await openSmall();
  const { backend } = small;
  let reads = 0;
  const failing: Backend = {
    ...backend,
    info: { ...backend.info, isAsynchronous: true, waitsForAll: false },
    async read(source) {
      const bytes = await backend.read(source);
      if (++reads === 2) throw new DeviceError("Cannot go on: the device is lost");
      return bytes;
    },
  };
  using engine = new Engine({ ...small.model, backend: failing }, {
    batchSize: 1,
    contextLength: 32,
    sampling: GREEDY,
  });
  const sequence = { prompt: promptOf(0, 4), maxTokens: 8, stream: 0, endsWith: () => false };
  const tokens = decode(engine, [sequence], { seed: 1 });
  assert.equal((await tokens.next()).done, false);
  await setTimeout(1);
  await assert.rejects(tokens.next(), new DeviceError("Cannot go on: the device is lost"));
});

Deno.test("no step leaves the context, whether it is enqueued ahead or its slot is idle", async () => {
  using small = await openSmall();
  const { backend } = small;
  for (const isAsynchronous of [false, true]) {
    const positions: Promise<ArrayBuffer>[] = [];
    const watched: Backend = {
      ...backend,
      info: { ...backend.info, isAsynchronous },
      kvCacheAppend(keys, values, qkv, at) {
        positions.push(backend.read(at));
        backend.kvCacheAppend(keys, values, qkv, at);
      },
    };
    const prompts = [30, 3, 28, 2, 31].map((length, index) => promptOf(index, length));
    const settings = { contextLength: 32, maxTokens: 100, batchSize: 3 };
    await draw({ ...small.model, backend: watched }, prompts, settings);
    const all = (await Promise.all(positions)).flatMap((bytes) => [...new Int32Array(bytes)]);
    assert.equal(Math.max(...all), 30); // the last token drawn would stand at 31 and is not fed
    assert.equal(Math.min(...all), 0);
  }
});

Deno.test("the context ends a sequence; one with room goes on", async () => {
  using small = await openSmall();
  const prompts = [promptOf(1, 30), promptOf(2, 31), promptOf(3, 8)];
  const drawn = await draw(small.model, prompts, { contextLength: 32, maxTokens: 16 });
  assert.deepEqual(drawn.map(({ end }) => end), ["context", "context", "length"]);
  assert.deepEqual(drawn.map(({ ids }) => ids.length), [2, 1, 16]);
  const roomy = await draw(small.model, prompts, { maxTokens: 16 });
  drawn.forEach(({ ids }, i) => assert.deepEqual(ids, roomy[i].ids.slice(0, ids.length)));
});

Deno.test("the same seed draws the same tokens with any number of threads", async () => {
  const drawn = [];
  for (const threads of [1, 2, 3]) {
    using small = await openSmall(SMALL_MODEL, threads);
    const prompts = [promptOf(1, 5), promptOf(2, 40)];
    drawn.push(await draw(small.model, prompts, { sampling: HOT, seed: 77, maxTokens: 30 }));
    if (threads > 1) continue;
    const other = await draw(small.model, prompts, { sampling: HOT, seed: 77 + 2 ** 32 });
    assert.notDeepEqual(other[0].ids, drawn[0][0].ids.slice(0, other[0].ids.length));
  }
  assert.deepEqual(drawn[1], drawn[0]);
  assert.deepEqual(drawn[2], drawn[0]);
});

Deno.test("equal prompts with streams of their own differ, with the same stream they agree", async () => {
  using small = await openSmall();
  const prompts = [promptOf(1, 5), promptOf(1, 5)];
  const [a, b] = await draw(small.model, prompts, { sampling: HOT });
  assert.notDeepEqual(a.ids, b.ids);
  const [c, d] = await draw(small.model, prompts, { sampling: HOT, streams: [4, 4] });
  assert.deepEqual(c.ids, d.ids);
});

Deno.test("the repetition penalty counts tokens of the prompt and of the text", async () => {
  using small = await openSmall();
  const sampling = { ...GREEDY, repetitionPenalty: 1.5 };
  let changed = 0;
  for (const length of [20, 40, 60]) {
    const prompt = promptOf(length, length);
    const [drawn] = await draw(small.model, [prompt], { sampling, maxTokens: 8 });
    const [plain] = await draw(small.model, [prompt], { maxTokens: 8 });
    if (drawn.ids.join() !== plain.ids.join()) changed++;
    for (const [i, id] of drawn.ids.entries()) {
      const context = Int32Array.of(...prompt, ...drawn.ids.slice(0, i));
      const logits = await computeLogits(small.model, context, "last");
      for (const one of new Set(context)) logits[one] *= logits[one] > 0 ? 1 / 1.5 : 1.5;
      assert.equal(id, logits.indexOf(Math.max(...logits)), `token ${i} after ${length}`);
    }
  }
  assert.ok(changed > 0, "the penalty never mattered");
});

Deno.test("an abort ends the run after the token in progress, and the engine serves again", async () => {
  using small = await openSmall();
  using engine = new Engine(small.model, { batchSize: 2, contextLength: 640, sampling: GREEDY });
  const sequence = (index: number) => ({
    prompt: promptOf(index, 4),
    maxTokens: 500,
    stream: 0,
    endsWith: () => false,
  });
  const controller = new AbortController();
  let count = 0;
  const options = { seed: 1, signal: controller.signal };
  for await (const _ of decode(engine, [sequence(0), sequence(1)], options)) {
    if (++count === 7) controller.abort();
  }
  assert.ok(count >= 7 && count <= 8, `${count} tokens`);
  const ids: number[] = [];
  for await (const { id } of decode(engine, [{ ...sequence(2), maxTokens: 5 }], { seed: 1 })) {
    ids.push(id);
  }
  const [expected] = await draw(small.model, [promptOf(2, 4)], { maxTokens: 5 });
  assert.deepEqual(ids, expected.ids);
});

Deno.test("prompts that cannot be continued are refused", async () => {
  using small = await openSmall();
  const refusals: [Int32Array, RegExp][] = [
    [new Int32Array(0), /Cannot continue 0 tokens: expected 1 to 31/],
    [promptOf(1, 32), /Cannot continue 32 tokens: expected 1 to 31/],
    [
      Int32Array.of(5, 97),
      /Cannot continue a prompt with token 97: the model has ids from 0 to 96/,
    ],
    [Int32Array.of(-1), /Cannot continue a prompt with token -1/],
  ];
  for (const [prompt, message] of refusals) {
    await assert.rejects(draw(small.model, [prompt], { contextLength: 32 }), message);
  }
  assert.throws(
    () => new Engine(small.model, { batchSize: 1, contextLength: 641, sampling: GREEDY }),
    /Cannot use a context of 641 tokens: the model has 640/,
  );
});

Deno.test("an engine returns all of its memory, also when it could not be made", async () => {
  using small = await openSmall();
  const before = small.backend.allocatedBytes;
  await draw(small.model, [promptOf(1, 5)], {});
  await computeLogits(small.model, promptOf(1, 5));
  assert.equal(small.backend.allocatedBytes, before);
  const tooLarge = { batchSize: 2 ** 20, contextLength: 640, sampling: GREEDY };
  assert.throws(() => new Engine(small.model, tooLarge));
  assert.equal(small.backend.allocatedBytes, before);
});
