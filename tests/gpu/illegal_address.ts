// Makes a kernel read where there is nothing and prints what is said: the program of errors_test.ts, because a card that
// did this fails until the process ends.

// deno-lint-ignore-file no-console
import { TinyllamaError } from "../../lib/core/errors.ts";
import { cudaForTests } from "../cuda_sim/device.ts";

const cuda = await cudaForTests();
/**
 * From a tensor to where neither a card nor its host has memory: a card that shares the host's pages could read what lies a
 * few gibibytes further on. The simulator's card has addresses of its own.
 */
const NOWHERE = cuda.isSimulated ? 2 ** 33 : 2 ** 47;
using backend = cuda.open("f32", 0);
using arena = backend.allocate("a", {
  x: { dtype: "f32", shape: [64] },
  sum: { dtype: "f32", shape: [1] },
});
const { x, sum } = arena.tensors;
try {
  backend.sum(sum, { ...x, byteOffset: NOWHERE });
  await backend.synchronize();
} catch (error) {
  if (!(error instanceof TinyllamaError)) throw error;
  console.log(error.message);
}
