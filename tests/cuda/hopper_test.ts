// TINYLLAMA_CUDA_HOPPER=1 and TINYLLAMA_CUDA_PDL=1 are refused where the card or its driver cannot, and off where nobody asks.

import assert from "node:assert/strict";
import { buildSimulator } from "../cuda_sim/build.ts";

const build = await buildSimulator();
const reason = build.kind === "built" ? "" : ` (skipped: ${build.reason})`;
const PROGRAM = decodeURIComponent(new URL("./open_cuda.ts", import.meta.url).pathname);

/** What a process with these variables says of opening the backend in the simulator. */
async function open(folder: string, variables: Readonly<Record<string, string>>): Promise<string> {
  const env = { TINYLLAMA_CUDA_LIBRARIES: folder, NO_COLOR: "1", ...variables };
  const args = ["run", "-A", "--no-check", PROGRAM];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, env }).output();
  return new TextDecoder().decode(stdout).trim();
}

Deno.test({
  name: `kernels of Hopper's own instructions are for the cards that have them${reason}`,
  ignore: build.kind === "missing",
  async fn() {
    const folder = build.kind === "built" ? build.folder : "";
    const asked = { TINYLLAMA_CUDA_HOPPER: "1" };
    const hopper = { TINYLLAMA_CUDA_SIM_CAPABILITY: "9.0" };
    assert.equal(await open(folder, { ...asked, ...hopper }), "cuda (simulator, bf16)");
    assert.equal(await open(folder, { TINYLLAMA_CUDA_HOPPER: "0" }), "cuda (simulator, bf16)");
    assert.match(
      await open(folder, asked),
      /^Cannot use cuda: TINYLLAMA_CUDA_HOPPER=1 asks for .* 9\.0, and the card has 8\.6$/,
    );
  },
});

Deno.test({
  name: `dependent launches are for the cards and drivers that have them${reason}`,
  ignore: build.kind === "missing",
  async fn() {
    const folder = build.kind === "built" ? build.folder : "";
    const asked = { TINYLLAMA_CUDA_PDL: "1" };
    const hopper = { TINYLLAMA_CUDA_SIM_CAPABILITY: "9.0" };
    const later = { TINYLLAMA_CUDA_SIM_CAPABILITY: "12.0" };
    for (const card of [hopper, later]) {
      assert.equal(await open(folder, { ...asked, ...card }), "cuda (simulator, bf16)");
    }
    assert.equal(await open(folder, { TINYLLAMA_CUDA_PDL: "0" }), "cuda (simulator, bf16)");
    assert.match(
      await open(folder, asked),
      /^Cannot use cuda: TINYLLAMA_CUDA_PDL=1 asks for .* 9\.0 and later, and the card has 8\.6$/,
    );
    assert.match(
      await open(folder, { ...asked, ...hopper, TINYLLAMA_CUDA_SIM_DRIVER: "12020" }),
      /^Cannot use cuda: TINYLLAMA_CUDA_PDL=1 asks for a driver for CUDA 12\.3, and this one is for 12\.2$/,
    );
  },
});
