// The order of blocks: a permutation in each epoch, another one in the next, local, and a pure function.

import assert from "node:assert/strict";
import { BlockOrder } from "../../lib/data/shuffle.ts";

const SIZES: readonly (readonly [number, number])[] = [
  [1, 1],
  [1, 100],
  [2, 1],
  [2, 2],
  [3, 2],
  [7, 3],
  [16, 16],
  [17, 16],
  [64, 8],
  [1000, 1],
  [1000, 37],
  [1000, 5000],
  [4097, 64],
];

function epochOf(order: BlockOrder, epoch: number): number[] {
  return Array.from({ length: order.blocks }, (_, place) => order.blockAt(epoch, place));
}

for (const [blocks, windowBlocks] of SIZES) {
  Deno.test(`each of ${blocks} blocks comes once an epoch in windows of ${windowBlocks}`, () => {
    const order = new BlockOrder(blocks, windowBlocks, 3407, "prose");
    for (let epoch = 0; epoch < 5; epoch++) {
      const seen = epochOf(order, epoch);
      assert.deepEqual(seen.toSorted((a, b) => a - b), Array.from(seen, (_, i) => i));
    }
  });
}

Deno.test("the order differs from epoch to epoch, by seed and by source", () => {
  const order = (seed: number, name: string) => new BlockOrder(100, 40, seed, name);
  const epochs = [0, 1, 2, 3].map((epoch) => epochOf(order(1, "prose"), epoch));
  const others = [
    order(2, "prose"),
    order(1 + 2 ** 32, "prose"),
    order(1, "code"),
  ].map((other) => epochOf(other, 0));
  const all = [...epochs, ...others].map((blocks) => blocks.join());
  assert.equal(new Set(all).size, all.length);
});

Deno.test("the order is a pure function: any access in any sequence gives the same", () => {
  const order = new BlockOrder(500, 64, 3407, "prose");
  const sequential = [0, 1, 2].map((epoch) => epochOf(order, epoch));
  for (let i = 0; i < 1500; i++) {
    const at = i * 677 % 1500;
    const [epoch, place] = [Math.floor(at / 500), at % 500];
    const fresh = new BlockOrder(500, 64, 3407, "prose");
    assert.equal(fresh.blockAt(epoch, place), sequential[epoch][place]);
    assert.equal(order.blockAt(epoch, place), sequential[epoch][place]);
  }
});

Deno.test("reads stay within one window until all its blocks are read", () => {
  const order = new BlockOrder(1000, 64, 1, "prose");
  for (let epoch = 0; epoch < 3; epoch++) {
    const windows = epochOf(order, epoch).map((block) => Math.floor(block / 64));
    const changes = windows.filter((window, i) => i === 0 || window !== windows[i - 1]);
    assert.equal(changes.length, 16);
    assert.equal(new Set(changes).size, 16);
    assert.notDeepEqual(changes, changes.toSorted((a, b) => a - b));
  }
});

Deno.test("every block comes to every place about equally often", () => {
  const blocks = 11, epochs = 11_000;
  const order = new BlockOrder(blocks, 4, 5, "prose");
  const counts = Array.from({ length: blocks }, () => new Array<number>(blocks).fill(0));
  for (let epoch = 0; epoch < epochs; epoch++) {
    epochOf(order, epoch).forEach((block, place) => counts[place][block]++);
  }
  // Windows of 4, 4 and 3 in 3! orders: the last window starts at place 0, 4 or 8, so within its own blocks a place
  // is not uniform, but the three blocks 8, 9, 10 must be alike, and so must those of each full window.
  for (const row of counts) {
    for (const window of [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]) {
      const expected = window.reduce((sum, block) => sum + row[block], 0) / window.length;
      for (const block of window) {
        assert.ok(Math.abs(row[block] - expected) <= 5 * Math.sqrt(expected) + 1, `${row}`);
      }
    }
    const [first, second] = [row.slice(0, 4), row.slice(4, 8)].map((part) =>
      part.reduce((sum, n) => sum + n, 0)
    );
    assert.ok(Math.abs(first - second) <= 5 * Math.sqrt(first + second), `${row}`);
  }
});

Deno.test("billions of blocks need no table", () => {
  const order = new BlockOrder(2 ** 32 - 5, 8192, 3407, "web");
  const seen = new Set<number>();
  for (let place = 0; place < 20_000; place++) seen.add(order.blockAt(3, place * 214_000));
  assert.equal(seen.size, 20_000);
  assert.ok(
    [...seen].every((block) => Number.isInteger(block) && block >= 0 && block < 2 ** 32 - 5),
  );
});
