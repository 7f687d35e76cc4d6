// What is said of a kernel's illegal address: the failed call, and with TINYLLAMA_CUDA_DEBUG=1 the operation.

import assert from "node:assert/strict";
import { onCuda } from "./on_cuda.ts";

const PROGRAM = decodeURIComponent(new URL("./illegal_address.ts", import.meta.url).pathname);

async function messageWith(env: Record<string, string>): Promise<string> {
  const args = ["run", "-A", "--no-check", PROGRAM];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, env }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout);
  assert.notEqual(text, "", decoder.decode(stderr));
  return text;
}

onCuda("an illegal address is reported, and named with TINYLLAMA_CUDA_DEBUG=1", async () => {
  const [plain, named] = await Promise.all([
    messageWith({}),
    messageWith({ TINYLLAMA_CUDA_DEBUG: "1" }),
  ]);
  assert.match(plain, /failed with 700, .*; TINYLLAMA_CUDA_DEBUG=1 names the operation/);
  assert.match(named, /reduce_sum failed with 700, /);
});
