// One thread of the WASM build. Shares module and memory with wasm.ts, has a stack of its own, and stays inside
// tl_worker_run until the context is closed. Never imported: it is the entry of a worker.

/// <reference lib="deno.worker" />

import type { WorkerStart } from "./wasm.ts";

self.onmessage = (event: MessageEvent<WorkerStart>) => {
  const { module, memory, context, worker, stackTop } = event.data;
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const { __stack_pointer: stack, tl_worker_run: run } = exports;
  if (!(stack instanceof WebAssembly.Global) || typeof run !== "function") {
    throw new TypeError("The module lacks __stack_pointer or tl_worker_run");
  }
  stack.value = stackTop;
  self.postMessage("ready");
  run(context, worker);
  self.close();
};
