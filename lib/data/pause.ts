// Pauses of long work on the main thread, for signals and the screen.

import { setTimeout } from "node:timers/promises";

const INTERVAL_MS = 50;

/**
 * A function to await between pieces of work. Every now and then it lets the event loop rest, which looks for signals only
 * when it has nothing to do, and throws the reason of `signal` once that is aborted.
 */
export function pauses(signal: AbortSignal | undefined): () => Promise<void> {
  let lastMs = performance.now();
  return async () => {
    if (performance.now() - lastMs < INTERVAL_MS) return;
    await setTimeout(0);
    signal?.throwIfAborted();
    lastMs = performance.now();
  };
}
