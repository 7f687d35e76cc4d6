// The WebGPU adapter of the tests. A software adapter takes a minute for what other devices do in seconds, so
// `deno task ok` sets TINYLLAMA_QUICK=1 and leaves it to `deno task test`.

import { openBackend } from "../../lib/backend/open.ts";
import { type AdapterReport, findAdapter } from "../../lib/backend/webgpu/device.ts";
import type { Backend } from "../../lib/core/backend.ts";

/** The adapter that Deno finds, software or not; null without one. */
export const adapter: AdapterReport | null = await findAdapter();

/** Why tests do not use it; null when they do. */
export const webgpuMissing: string | null = reason();

function reason(): string | null {
  if (adapter === null) return "no adapter: a driver with Vulkan is needed";
  const isQuick = Deno.env.get("TINYLLAMA_QUICK") === "1";
  return isQuick && adapter.isSoftware ? "a software adapter: left to deno task test" : null;
}

/** A backend on the adapter. */
export function openWebgpu(): Promise<Backend> {
  return openBackend({ device: "webgpu", threads: null, matmul: "f32" });
}

/** Registers a test that is skipped, with the reason in its name, where there is no adapter to use. */
export function webgpuTest(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name: `${name} on webgpu${webgpuMissing === null ? "" : ` (skipped: ${webgpuMissing})`}`,
    ignore: webgpuMissing !== null,
    fn,
  });
}

/** The same with a backend of its own. */
export function onWebgpu(name: string, run: (backend: Backend) => Promise<void> | void): void {
  webgpuTest(name, async () => {
    using backend = await openWebgpu();
    await run(backend);
  });
}
