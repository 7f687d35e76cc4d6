// The cache gives back what was put in, also when hashes collide and after it has started over.

import assert from "node:assert/strict";
import { ChunkCache } from "../../lib/tokenizer/chunk_cache.ts";

Deno.test("chunks of one hash are told apart", () => {
  const cache = new ChunkCache();
  const source = new TextEncoder().encode("abacab");
  const ids = Int32Array.of(7, 8, 9, 0, 0, 0);
  cache.add(source, 0, 2, 1, ids, 0, 1);
  cache.add(source, 2, 4, 1, ids, 1, 3);
  assert.equal(cache.get(source, 4, 6, 1, ids, 3), 4);
  assert.equal(cache.get(source, 2, 4, 1, ids, 4), 6);
  assert.deepEqual([...ids], [7, 8, 9, 7, 8, 9]);
  assert.equal(cache.get(source, 1, 3, 1, ids, 0), -1);
  assert.equal(cache.get(source, 0, 3, 1, ids, 0), -1);
});

Deno.test("a full cache starts over and never gives wrong ids", () => {
  const cache = new ChunkCache();
  const source = new Uint8Array(4);
  const ids = new Int32Array(4);
  const view = new DataView(source.buffer);
  let known = 0;
  for (let i = 0; i < 400_000; i++) {
    view.setUint32(0, i);
    const hash = Math.imul(i, 0x9e3779b1);
    assert.equal(cache.get(source, 0, 4, hash, ids, 0), -1);
    ids.set([i, i + 1, i + 2]);
    cache.add(source, 0, 4, hash, ids, 0, 1 + i % 3);
    const earlier = i >> 1;
    view.setUint32(0, earlier);
    const end = cache.get(source, 0, 4, Math.imul(earlier, 0x9e3779b1), ids, 0);
    if (end < 0) continue;
    known++;
    if (end !== 1 + earlier % 3 || ids[0] !== earlier || ids[end - 1] !== earlier + end - 1) {
      assert.fail(`chunk ${earlier} came back as ${ids.subarray(0, end)}`);
    }
  }
  assert.ok(known > 50_000 && known < 400_000);
});
