// What comes first on a card: the driver compiles the kernels, finds them compiled the next time, and they compute. Prints how
// long each took, because without the driver's cache every process would wait for its compiler.

// deno-lint-ignore-file no-console
import assert from "node:assert/strict";
import { cuda, onCuda } from "./on_cuda.ts";

const COUNT = 1000;

for (const precision of ["bf16", "f32"] as const) {
  onCuda(`kernels of ${precision} are compiled, found again and run`, async () => {
    for (const time of ["first", "second"]) {
      const start = performance.now();
      using backend = cuda.open(precision, 0);
      console.log(`${precision}, ${time} time: ${Math.round(performance.now() - start)} ms`);
      using arena = backend.allocate("a", {
        x: { dtype: "f32", shape: [COUNT] },
        sum: { dtype: "f32", shape: [1] },
      });
      const { x, sum } = arena.tensors;
      for (const value of [0.5, 1, 2]) { // as it is, captured, and out of the graph
        backend.fill(x, value);
        backend.replay("sum", () => backend.sum(sum, x));
        assert.deepEqual([...new Float32Array(await backend.read(sum))], [value * COUNT]);
      }
    }
  });
}
