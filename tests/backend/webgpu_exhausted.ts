// Asks for buffers until the device has no memory for one, and prints the error: run by webgpu_test.ts in a process whose
// memory is limited. Nothing is written to the buffers.

// deno-lint-ignore-file no-console
import { openWebgpu } from "./webgpu_adapter.ts";

const GIBIBYTE = 2 ** 30;
const MAX_ROUNDS = 100;

using backend = await openWebgpu();
try {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    backend.allocate(`round ${round}`, { x: { dtype: "f32", shape: [GIBIBYTE / 4] } });
    await backend.synchronize();
  }
  console.log(`${MAX_ROUNDS} GiB were there`);
} catch (error) {
  console.log(String(error));
}
