// Appending to the cache: exact copies into the right slots, every other slot as it was.

import type { Precision } from "../../../lib/core/backend.ts";
import type { AttentionShape } from "../../reference/attention.ts";
import { kvCacheAppend } from "../../reference/kv_cache.ts";
import { conformance } from "./conformance.ts";
import { integers, type OpCase, opCase, random } from "./op_case.ts";

function appendCase(
  { compute }: Precision,
  shape: AttentionShape,
  S: number,
  where: readonly number[],
): OpCase {
  const { B, T, H, K, D } = shape, positions = Int32Array.from(where);
  const qkv = random(compute, [B, T, H + 2 * K, D], 1);
  const keys = random(compute, [B, K, S, D], 2), values = random(compute, [B, K, S, D], 3);
  const after = kvCacheAppend(keys.values, values.values, qkv.values, positions, shape);
  return opCase(
    `kvCacheAppend() of [${B}, ${T}, ${H} + 2 · ${K}, ${D}] at ${where} of ${S}`,
    { keys, values, qkv, positions: integers([B, T], positions) },
    (ops, t) => ops.kvCacheAppend(t.keys, t.values, t.qkv, t.positions),
    {
      keys: { values: after.keys, tolerance: 0 },
      values: { values: after.values, tolerance: 0 },
    },
  );
}

conformance("kv_cache", (precision) => [
  appendCase(precision, { B: 1, T: 1, H: 1, K: 1, D: 2 }, 1, [0]),
  appendCase(precision, { B: 3, T: 1, H: 8, K: 2, D: 16 }, 9, [8, 0, 3]),
  appendCase(precision, { B: 2, T: 4, H: 3, K: 1, D: 10 }, 12, [0, 1, 2, 3, 5, 6, 7, 8]),
  appendCase(precision, { B: 1, T: 5, H: 4, K: 4, D: 64 }, 40, [39, 3, 17, 0, 21]),
]);
