// Products of few rows on CUDA whose operand is a view that begins at no multiple of 16 bytes, as kernels read packs.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { byteLength, carve, type Tensor, type TensorSpec } from "../../lib/core/tensor.ts";
import { cudaForTests } from "../cuda_sim/device.ts";
import { encode } from "../reference/quantize.ts";
import { random } from "./conformance/op_case.ts";

const I = 320, O = 37;
const WEIGHTS = ["bf16", "f16", "q8_0", "q4_0"] as const;

const cuda = await cudaForTests();

/** A view `offset` bytes after the start of `arena`, with these values. */
function placed(
  backend: Backend,
  arena: Tensor,
  offset: number,
  spec: TensorSpec,
  x: Float64Array,
) {
  const view = carve(arena, "x", spec, offset);
  backend.write(view, encode(x, spec.dtype));
  return view;
}

for (const dtype of WEIGHTS) {
  for (const N of [1, 3, 8]) {
    const reason = cuda.missing === null ? "" : ` (skipped: ${cuda.missing})`;
    Deno.test({
      name:
        `a product with ${dtype} of ${N} rows that begin 2 bytes askew on ${cuda.name}${reason}`,
      ignore: cuda.missing !== null,
      async fn() {
        using backend = cuda.open("bf16", 0);
        const spec = { dtype: "bf16", shape: [N, I] } as const;
        const x = random("bf16", [N, I], 1).values, w = random(dtype, [O, I], 2).values;
        using arena = backend.allocate("views", {
          bytes: { dtype: "u8", shape: [byteLength(spec) + 16] },
          weight: { dtype, shape: [O, I] },
          out: { dtype: "bf16", shape: [N, O] },
        });
        const { bytes, weight, out } = arena.tensors;
        backend.write(weight, encode(w, dtype));
        const product = async (offset: number) => {
          backend.linearForward(out, placed(backend, bytes, offset, spec, x), weight, null);
          return new Uint8Array(await backend.read(out));
        };
        assert.deepEqual(await product(2), await product(0));
      },
    });
  }
}
