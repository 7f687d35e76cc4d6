// Signals that end a command: SIGINT (Ctrl-C) and SIGTERM.

import { TinyllamaError } from "../core/errors.ts";

/** Calls `onSignal` at each SIGINT and SIGTERM until disposed. */
export function listenForSignals(onSignal: () => void): Disposable {
  const names: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const name of names) Deno.addSignalListener(name, onSignal);
  return {
    [Symbol.dispose]() {
      for (const name of names) Deno.removeSignalListener(name, onSignal);
    },
  };
}

/** A signal that aborts at the first of them with a TinyllamaError that says `message`. Listens until disposed. */
export function interruptible(message: string): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const listening = listenForSignals(() => controller.abort(new TinyllamaError(message)));
  return { signal: controller.signal, [Symbol.dispose]: () => listening[Symbol.dispose]() };
}
