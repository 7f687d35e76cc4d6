// Training samples by index: every token a target, once an epoch, in an order that is the same however it is asked for.

import assert from "node:assert/strict";
import { join } from "node:path";
import { UsageError } from "../../lib/core/errors.ts";
import { HeldOutTokens } from "../../lib/data/held_out.ts";
import { type LoaderSource, SampleLoader } from "../../lib/data/loader.ts";
import { Mixture } from "../../lib/data/mixture.ts";
import { PackedTokens } from "../../lib/io/packed_stream.ts";
import { inTempFolder } from "../temp_folder.ts";
import { writeCounting } from "./data_setup.ts";

interface Setup {
  readonly prose?: number;
  readonly code?: number;
  readonly T?: number;
  readonly seed?: number;
  readonly windowTokens?: number;
}

/** Opens loaders of sources whose tokens count up: in each from 0. */
async function withLoaders(
  body: (open: (setup?: Setup) => SampleLoader) => void,
): Promise<void> {
  await inTempFolder((folder) => {
    using opened = new DisposableStack();
    const written = new Map<string, PackedTokens>();
    const stream = (name: string, tokens: number) => {
      const key = `${name}${tokens}`;
      const known = written.get(key);
      if (known !== undefined) return known;
      const made = opened.use(
        new PackedTokens(writeCounting(folder, key, tokens, 100), 1 << 30),
      );
      written.set(key, made);
      return made;
    };
    body(({ prose = 1003, code = 500, T = 16, seed = 3407, windowTokens } = {}) => {
      const sources: LoaderSource[] = [
        { name: "prose", tokens: stream("prose", prose), share: 0.7 },
        ...(code === 0 ? [] : [{ name: "code", tokens: stream("code", code), share: 0.3 }]),
      ];
      return new SampleLoader(sources, T, seed, windowTokens);
    });
  });
}

/** Samples from `first` on: inputs and targets, one array each. */
function read(loader: SampleLoader, first: number, count: number) {
  const inputs = new Int32Array(count * loader.sequenceLength);
  const targets = new Int32Array(count * loader.sequenceLength);
  loader.batch(first, count, inputs, targets);
  return { inputs, targets };
}

Deno.test("targets are the inputs one position later, and the last comes from the next block", () =>
  withLoaders((open) => {
    const loader = open({ code: 0 });
    const { inputs, targets } = read(loader, 0, 200);
    for (let i = 0; i < inputs.length; i++) {
      assert.equal(targets[i], (inputs[i] + 1) % 1003);
      if (i % 16 !== 0) assert.equal(inputs[i], targets[i - 1]);
    }
  }));

Deno.test("every token is a target, none twice in an epoch, and the rest opens the next epoch", () =>
  withLoaders((open) => {
    for (const prose of [17, 31, 32, 33, 47, 1000, 1003, 1024]) {
      const loader = open({ prose, code: 0, windowTokens: 200 });
      const blocks = Math.floor(prose / 16);
      const counts = new Array<number>(prose).fill(0);
      for (let epoch = 0; epoch < 40; epoch++) {
        const { targets } = read(loader, epoch * blocks, blocks);
        assert.equal(new Set(targets).size, blocks * 16, `${prose} tokens, epoch ${epoch}`);
        for (const target of targets) counts[target]++;
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${prose}, epoch ${epoch}`);
      }
    }
  }));

Deno.test("the order of an epoch is neither that of the file nor that of the epoch before", () =>
  withLoaders((open) => {
    const loader = open({ prose: 1024, code: 0 });
    const orders = [0, 1, 2].map((epoch) =>
      read(loader, epoch * 64, 64).inputs.filter((_, i) => i % 16 === 0).join()
    );
    const sorted = Array.from({ length: 64 }, (_, i) => i * 16).join();
    assert.equal(new Set([...orders, sorted]).size, 4);
  }));

Deno.test("a seed gives one order, another seed another", () =>
  withLoaders((open) => {
    const [a, b, c] = [open(), open(), open({ seed: 3408 })].map((one) => read(one, 0, 50).inputs);
    assert.deepEqual(a, b);
    assert.notDeepEqual(a, c);
  }));

Deno.test("random access gives what reading in sequence gives, so resuming is a seek", () =>
  withLoaders((open) => {
    const all = read(open(), 0, 400);
    const other = open();
    for (let i = 0; i < 400; i++) {
      const index = i * 277 % 400;
      const { inputs, targets } = read(other, index, 1);
      assert.deepEqual(inputs, all.inputs.subarray(index * 16, index * 16 + 16));
      assert.deepEqual(targets, all.targets.subarray(index * 16, index * 16 + 16));
    }
    const resumed = read(open(), 123, 277);
    assert.deepEqual(resumed.inputs, all.inputs.subarray(123 * 16));
    assert.deepEqual(resumed.targets, all.targets.subarray(123 * 16));
  }));

Deno.test("the samples of a step are the same for any number of ranks, and no two ranks share one", () =>
  withLoaders((open) => {
    const batchSize = 24;
    const whole = read(open(), 5 * batchSize, batchSize).inputs;
    for (const ranks of [1, 2, 3, 4, 8]) {
      const perRank = batchSize / ranks;
      const parts = Array.from(
        { length: ranks },
        (_, rank) => [...read(open(), 5 * batchSize + rank * perRank, perRank).inputs],
      );
      assert.deepEqual(parts.flat(), [...whole]);
    }
  }));

Deno.test("sources come in their shares, each in its own order, whatever the other one is", () =>
  withLoaders((open) => {
    const starts = (loader: SampleLoader, count: number) =>
      [...read(loader, 0, count).inputs].filter((_, i) => i % 16 === 0);
    const mixed = starts(open({ prose: 10_000 }), 100);
    const alone = starts(open({ prose: 10_000, code: 0 }), 70);
    const withMoreCode = starts(open({ prose: 10_000, code: 900 }), 100);
    assert.equal(mixed.length, 100);
    // Both sources count up from 0, so the mixture itself tells which sample is whose.
    const mixture = new Mixture([0.7, 0.3]);
    const proseOf = (samples: number[]) => samples.filter((_, i) => mixture.sourceOf(i) === 0);
    assert.equal(proseOf(mixed).length, 70);
    assert.deepEqual(proseOf(mixed), alone);
    assert.deepEqual(proseOf(withMoreCode), alone);
  }));

Deno.test("reads stay within the window of the shuffle", () =>
  withLoaders((open) => {
    const loader = open({ prose: 4096, code: 0, windowTokens: 256 });
    const { inputs } = read(loader, 0, 256);
    for (let window = 0; window < 16; window++) {
      const part = inputs.subarray(window * 256, window * 256 + 256);
      const first = Math.min(...part);
      assert.equal(first % 256, 0);
      assert.equal(Math.max(...part), first + 255);
    }
  }));

Deno.test("a sample is described by source, epoch, sequence and place", () =>
  withLoaders((open) => {
    const loader = open({ code: 0 });
    const { inputs } = read(loader, 100, 1);
    const file = String(Math.floor(inputs[0] / 100)).padStart(10, "0");
    assert.match(
      loader.describe(100),
      new RegExp(
        '^source "prose", epoch 2, sequence 39 of 62, from ' +
          `".*prose1003_${file}.bin" token ${inputs[0] % 100}$`,
      ),
    );
  }));

Deno.test("one sequence is enough to train on, one token less is refused", () =>
  withLoaders((open) => {
    const { inputs, targets } = read(open({ prose: 17, code: 0 }), 0, 3);
    assert.equal(inputs.length, targets.length);
    assert.throws(
      () => open({ prose: 16, code: 0 }),
      new UsageError(
        'Cannot train on source "prose": it has 16 tokens, expected at least 17 for sequences of ' +
          "16; prepare more text, or lower data.sequence_length",
      ),
    );
  }));

Deno.test("few files and few tokens work: one chunk file of the original crashed it", () =>
  inTempFolder((folder) => {
    using tokens = new PackedTokens(writeCounting(folder, "one", 2049, 4096), 1 << 30);
    const loader = new SampleLoader([{ name: "web", tokens, share: 1 }], 2048, 3407);
    assert.deepEqual([...read(loader, 0, 1).targets].slice(-2), [2047, 2048]);
  }));

Deno.test("held-out text is read in order, each target once, the last batch filled up with -1", () =>
  inTempFolder((folder) => {
    for (const count of [1, 3]) {
      for (const tokens of [0, 1, 2, 16, 17, 48, 49, 50, 97, 100]) {
        const parts = writeCounting(join(folder), `v${count}-${tokens}`, tokens, 30);
        using stream = new PackedTokens(parts, 1 << 30);
        const seen: number[] = [];
        for (const { inputs, targets } of new HeldOutTokens("web", stream, 16).batches(count)) {
          assert.equal(inputs.length, 16 * count);
          assert.equal(targets.length, 16 * count);
          targets.forEach((target, i) => {
            if (target >= 0) seen.push(target);
            assert.ok(target >= 0 ? inputs[i] === target - 1 : inputs[i] === 0 && target === -1);
          });
          assert.ok(targets[0] >= 0, "a batch without targets");
        }
        assert.deepEqual(seen, Array.from({ length: Math.max(0, tokens - 1) }, (_, i) => i + 1));
      }
    }
  }));
