// The merge loop: its two ways agree with a naive one, and a megabyte without a space costs linear
// work.

import assert from "node:assert/strict";
import { philox } from "../../lib/core/rng.ts";
import { Merger } from "../../lib/tokenizer/merger.ts";
import { PairTable } from "../../lib/tokenizer/pair_table.ts";
import { llamaTokenizer, Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import {
  type Merges,
  mergesFromRows,
  mergesFromScores,
  type PieceKind,
} from "../../lib/tokenizer/vocabulary.ts";

/** Whole numbers below `bound`, the same on every run. */
function randomNumbers(seed: number): (bound: number) => number {
  const words = new Uint32Array(4);
  let counter = 0;
  return (bound) => {
    philox(words, seed, 0, counter++, 0);
    return words[0] % bound;
  };
}

/** Merges over `count` ids, some of equal rank, products included among the ids. */
function randomMerges(seed: number, count: number, characters: number): Merges {
  const below = randomNumbers(seed);
  const rows: number[] = [];
  const seen = new Set<string>();
  for (let merged = characters; merged < count; merged++) {
    const left = below(merged), right = below(merged);
    if (seen.has(`${left},${right}`)) continue;
    seen.add(`${left},${right}`);
    rows.push(left, right, merged, below(count));
  }
  return mergesFromRows(rows);
}

/** The definition: find the best pair, leftmost first, replace it, start over. */
function mergeNaively(merges: Merges, row: readonly number[]): number[] {
  const ids = [...row];
  for (;;) {
    let best = -1, at = -1;
    for (let i = 0; i + 1 < ids.length; i++) {
      const merge = merges.left.findIndex((left, m) =>
        left === ids[i] && merges.right[m] === ids[i + 1]
      );
      if (merge >= 0 && (best < 0 || merges.rank[merge] < merges.rank[best])) {
        best = merge;
        at = i;
      }
    }
    if (at < 0) return ids;
    ids.splice(at, 2, merges.merged[best]);
  }
}

Deno.test("scanning and the heap give what the definition gives", () => {
  for (let seed = 0; seed < 150; seed++) {
    const merges = randomMerges(seed, 40, 5);
    const below = randomNumbers(seed + 1000);
    const row = Array.from({ length: 1 + below(70) }, () => below(5));
    const expected = mergeNaively(merges, row);
    for (const maxScanned of [0, 1000]) {
      const merger = new Merger(new PairTable(merges), maxScanned);
      merger.row(row.length).set(row);
      const length = merger.merge(row.length);
      assert.deepEqual(Array.from(merger.row(row.length).subarray(0, length)), expected);
    }
  }
});

Deno.test("a row longer than any before keeps its ids", () => {
  const merger = new Merger(new PairTable(mergesFromRows([0, 1, 2, 0])));
  const row = merger.row(5000);
  for (let i = 0; i < 5000; i++) row[i] = i & 1;
  assert.equal(merger.merge(5000), 2500);
  assert.deepEqual([...new Set(row.subarray(0, 2500))], [2]);
});

Deno.test("more merging characters than there are classes", async () => {
  const count = 9000;
  const letters = Array.from({ length: count }, (_, i) => String.fromCodePoint(0x4e00 + i));
  const doubles = letters.map((letter, i) => letter + letters[(i * 7 + 1) % count]);
  const pieces = ["<unk>", "<s>", "</s>", "▁", ...letters, ...doubles];
  const kinds = pieces.map((_, id): PieceKind =>
    id === 0 ? "unknown" : id < 3 ? "control" : "normal"
  );
  const { vocabulary } = await llamaTokenizer();
  const merging = mergesFromScores(pieces, kinds, pieces.map((_, id) => -id));
  const tokenizer = new Tokenizer({ ...vocabulary, pieces, kinds, ...merging });
  for (let i = 0; i < count; i++) {
    const [first, second] = doubles[i];
    const ids = Array.from(tokenizer.encode(first + second + second));
    assert.deepEqual(ids, [3, 4 + count + i, 4 + letters.indexOf(second)]);
  }
});

Deno.test("1 MB without a space costs work in proportion to its length", async () => {
  const tokenizer = await llamaTokenizer();
  const below = randomNumbers(3);
  const letters = "etaoinshrdlucmfwyp";
  const texts = {
    letters: Array.from({ length: 1 << 20 }, () => letters[below(letters.length)]).join(""),
    onelongrun: "a".repeat(1 << 20),
    syllables: "lalilu".repeat((1 << 20) / 6),
  };
  for (const [name, text] of Object.entries(texts)) {
    const cost = (length: number) => {
      const before = tokenizer.steps;
      const ids = tokenizer.encode(text.slice(0, length));
      assert.equal(tokenizer.decode(ids), text.slice(0, length), name);
      return tokenizer.steps - before;
    };
    const quarter = cost(1 << 18), whole = cost(1 << 20);
    assert.ok(whole > 1 << 20, `${name} is merged as one chunk: ${whole} steps`);
    assert.ok(whole < 6 * quarter, `${name}: ${quarter} steps for 0.25 MB, ${whole} for 1 MB`);
  }
});
