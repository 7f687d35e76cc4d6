// Opens the CUDA backend in bf16 and prints its name, or what went wrong: the program of hopper_test.ts, for the environment
// that it is started with.

// deno-lint-ignore-file no-console
import { openBackend } from "../../lib/backend/open.ts";
import { DeviceError } from "../../lib/core/errors.ts";

try {
  using backend = await openBackend({ device: "cuda", threads: null, matmul: "bf16" });
  console.log(backend.info.name);
} catch (error) {
  if (!(error instanceof DeviceError)) throw error;
  console.log(error.message);
}
