// Random weights that are made on the device: a megabyte comes from the host, copies of it fill the rest. Speed does not
// depend on what weights say, but the power that products draw does: zeros would flatter.

import type { Backend } from "../../lib/core/backend.ts";
import { elementCount, reshape, rows, type Tensor } from "../../lib/core/tensor.ts";
import { fillNormal } from "../../lib/model/init.ts";
import type { ParameterSet } from "../../lib/model/weights.ts";

const CHUNK_ELEMENTS = 1 << 18;
const STD = 0.02;

/** Fills an f32 or bf16 tensor with normal numbers of standard deviation 0.02. */
export function fillRandom(backend: Backend, tensor: Tensor, seed: number): void {
  const count = elementCount(tensor.shape), flat = reshape(tensor, [count]);
  const values = new Float32Array(CHUNK_ELEMENTS);
  fillNormal(values, STD, seed, 0, 0);
  let filled = Math.min(count, CHUNK_ELEMENTS);
  const chunk = values.subarray(0, filled);
  backend.write(rows(flat, 0, filled), tensor.dtype === "bf16" ? upperHalves(chunk) : chunk);
  while (filled < count) {
    const more = Math.min(filled, count - filled);
    backend.copy(rows(flat, filled, filled + more), rows(flat, 0, more));
    filled += more;
  }
}

/** Random matrices and norms of one, f32 or bf16. */
export function randomizeParameters(backend: Backend, set: ParameterSet): void {
  set.flats.forEach((flat, i) => fillRandom(backend, flat, i));
  backend.fill(set.root.finalNorm, 1);
  for (const { attnNorm, mlpNorm } of set.blocks) {
    backend.fill(attnNorm, 1);
    backend.fill(mlpNorm, 1);
  }
}

/** f32 numbers cut off to bf16. */
function upperHalves(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word) => word >>> 16);
}
