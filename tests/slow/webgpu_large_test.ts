// Tensors larger than one binding of an adapter that keeps to WebGPU's defaults (128 MiB): every operation that may meet
// one cuts it into ranges, and the seams must not show.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { reshape, rows, type Tensor } from "../../lib/core/tensor.ts";
import { onWebgpu } from "../backend/webgpu_adapter.ts";

const V = 32000, C = 2048;
/** Tokens on both sides of where ranges of 128 MiB meet, at the ends, and twice the same. */
const IDS = [0, 1, 16319, 16320, 16321, 16383, 16384, 31999, 16320, 0, 31998];

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;

async function floats(backend: Backend, tensor: Tensor): Promise<Float32Array> {
  return new Float32Array(await backend.read(tensor));
}

/** A value that tells rows and columns apart, exact in bf16. */
function valueOf(row: number, column: number): number {
  return (row % 16) + (column % 8) / 16;
}

onWebgpu("an embedding of 250 MiB, its gradient and its sums", async (backend) => {
  using arena = backend.allocate("a", {
    table: f32(V, C),
    out: f32(IDS.length, C),
    ids: { dtype: "i32", shape: [IDS.length] },
    total: f32(64),
  });
  const { table, out, ids, total } = arena.tensors;
  const values = new Float32Array(V * C);
  for (let i = 0; i < values.length; i++) values[i] = valueOf(Math.floor(i / C), i % C);
  backend.write(table, values);
  backend.write(ids, Int32Array.from(IDS));
  backend.embeddingForward(out, ids, table);
  const gathered = await floats(backend, out);
  IDS.forEach((id, n) => {
    assert.deepEqual(gathered.subarray(n * C, (n + 1) * C), values.subarray(id * C, (id + 1) * C));
  });

  backend.fill(table, 0.5);
  backend.embeddingBackward(table, out, ids);
  backend.sum(rows(total, 0, 1), table);
  const found = await floats(backend, table);
  const expected = new Float32Array(V * C).fill(0.5);
  IDS.forEach((id, n) => {
    for (let j = 0; j < C; j++) expected[id * C + j] += gathered[n * C + j];
  });
  assert.ok(found.every((value, i) => value === expected[i]));
  const added = gathered.reduce((sum, value) => sum + value, 0);
  const [sum] = await floats(backend, rows(total, 0, 1));
  assert.ok(Math.abs(sum / (0.5 * V * C + added) - 1) < 1e-6, `${sum}`);
});

onWebgpu("logits of 250 MiB and their gradient", async (backend) => {
  const N = 2048;
  using arena = backend.allocate("a", {
    logits: f32(N, V),
    losses: f32(N),
    targets: { dtype: "i32", shape: [N] },
  });
  const { logits, losses, targets } = arena.tensors;
  const labels = Int32Array.from({ length: N }, (_, n) => n % 5 === 0 ? -1 : (n * 997) % V);
  backend.write(targets, labels);
  backend.fill(logits, 2);
  backend.crossEntropyForwardBackward(losses, logits, targets, 0.25);
  const found = await floats(backend, losses), gradient = await floats(backend, logits);
  for (let n = 0; n < N; n++) {
    const isIgnored = labels[n] < 0, expected = isIgnored ? 0 : Math.log(V);
    assert.ok(Math.abs(found[n] - expected) < 1e-5, `loss ${n}`);
    const row = gradient.subarray(n * V, (n + 1) * V);
    const other = row[(labels[n] + 1 + V) % V];
    assert.ok(Math.abs(other * V - (isIgnored ? 0 : 0.25)) < 1e-5, `gradient ${n}`);
    if (!isIgnored) assert.ok(Math.abs(row[labels[n]] + 0.25 * (1 - 1 / V)) < 1e-6, `label ${n}`);
  }
});

onWebgpu("a flat buffer of 140 MiB in AdamW and in casts", async (backend) => {
  const count = 35 * (1 << 20) + 3;
  using arena = backend.allocate("a", {
    param: f32(count),
    grad: f32(count),
    m: f32(count),
    v: f32(count),
    halves: { dtype: "bf16", shape: [count] },
    clip: f32(2),
    schedule: f32(2),
  });
  const { param, grad, m, v, halves, clip, schedule } = arena.tensors;
  for (const [tensor, value] of [[param, 1], [grad, 0.5], [clip, 1]] as const) {
    backend.fill(tensor, value);
  }
  backend.write(schedule, Float32Array.of(0.25, 1));
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
  backend.adamwUpdate(param, null, grad, m, v, clip, schedule, options);
  const updated = await floats(backend, param);
  assert.ok(updated.every((value) => Math.abs(value - 0.75) < 1e-6), "param");
  assert.ok((await floats(backend, m)).every((value) => Math.abs(value - 0.05) < 1e-7), "m");
  backend.cast(halves, param);
  backend.fill(param, 0);
  backend.cast(param, halves);
  assert.ok((await floats(backend, param)).every((value) => value === 0.75), "cast");
});

onWebgpu("rows of 140 MiB in norms, rotations and the gated activation", async (backend) => {
  const N = 4600, F = 4096;
  using arena = backend.allocate("a", {
    gateUp: f32(N, 2 * F),
    normed: f32(N, 2 * F),
    out: f32(N, F),
    rstd: f32(2 * N),
    weight: f32(F),
    positions: { dtype: "i32", shape: [N] },
    table: f32(1, 64),
  });
  const { gateUp, normed, out, rstd, weight, positions, table } = arena.tensors;
  backend.fill(gateUp, 3);
  backend.swigluForward(out, gateUp);
  const silu = 3 / (1 + Math.exp(-3)) * 3;
  assert.ok((await floats(backend, out)).every((x) => Math.abs(x / silu - 1) < 1e-6), "swiglu");
  backend.fill(weight, 1);
  backend.rmsnormForward(normed, rstd, reshape(gateUp, [2 * N, F]), weight, 0);
  const expected = Array.from(await floats(backend, rstd));
  assert.ok(expected.every((x) => Math.abs(x * 3 - 1) < 1e-6), "rmsnorm's rstd");
  assert.ok((await floats(backend, normed)).every((x) => Math.abs(x - 1) < 1e-6), "rmsnorm");
  // A quarter turn: (a, b) becomes (−b, a).
  backend.write(table, Float32Array.from({ length: 64 }, (_, i) => i < 32 ? 0 : 1));
  backend.ropeForward(gateUp, table, positions, 126, 1);
  const turned = await floats(backend, gateUp);
  const isTurned = turned.every((x, i) => {
    const isValue = Math.floor(i / 64) % 128 === 127;
    return x === (isValue || i % 64 >= 32 ? 3 : -3);
  });
  assert.ok(isTurned, "rope");
});
