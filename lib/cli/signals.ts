// Signals that end a command: SIGINT (Ctrl-C) and SIGTERM.

import { TinyllamaError } from "../core/errors.ts";

/** Work ended by a signal, with nothing left to continue. */
export class InterruptedError extends TinyllamaError {
  override name = "InterruptedError";
  /** What a shell reports for a program that the signal ended: 130 for Ctrl-C. */
  readonly exitCode: number;

  constructor(message: string, signal: Deno.Signal) {
    super(message);
    this.exitCode = signal === "SIGTERM" ? 143 : 130;
  }
}

/** Calls `onSignal` at each SIGINT and SIGTERM until disposed. */
export function listenForSignals(onSignal: (signal: Deno.Signal) => void): Disposable {
  const names: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  const listeners = names.map((name) => ({ name, listener: () => onSignal(name) }));
  for (const { name, listener } of listeners) Deno.addSignalListener(name, listener);
  return {
    [Symbol.dispose]() {
      for (const { name, listener } of listeners) Deno.removeSignalListener(name, listener);
    },
  };
}

/** A signal that aborts at the first of them with an InterruptedError that says `message`. Listens until disposed. */
export function interruptible(message: string): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const listening = listenForSignals((name) =>
    controller.abort(new InterruptedError(message, name))
  );
  return { signal: controller.signal, [Symbol.dispose]: () => listening[Symbol.dispose]() };
}
