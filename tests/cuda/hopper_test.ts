// TINYLLAMA_CUDA_HOPPER=1 is refused where the card has no such instructions, and off where nobody asks for it.

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
