// Registers tests of the CUDA device: on a card, or in the simulator where it is asked for.

import { type CudaForTests, cudaForTests } from "../cuda_sim/device.ts";

/** The device of the tests in this folder. */
export const cuda: CudaForTests = await cudaForTests();

/** A test that is skipped, with the reason in its name, where there is neither card nor simulator. */
export function onCuda(name: string, fn: () => Promise<void>): void {
  register(name, cuda.missing, fn);
}

/** The same for what takes the simulator too long. */
export function onCard(name: string, fn: () => Promise<void>): void {
  register(name, cuda.isSimulated ? "left to a card" : cuda.missing, fn);
}

function register(name: string, missing: string | null, fn: () => Promise<void>): void {
  const reason = missing === null ? "" : ` (skipped: ${missing})`;
  Deno.test({ name: `${name} on ${cuda.name}${reason}`, ignore: missing !== null, fn });
}
