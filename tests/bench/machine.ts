// What stands at the head of every result: figures of two machines do not compare.

import { cpus, totalmem } from "node:os";

/** Where and when figures were measured, and by which command. */
export interface Machine {
  readonly date: string;
  readonly command: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly os: string;
  readonly deno: string;
}

/** This machine, now; `command` is what was typed. */
export function describeMachine(): Machine {
  const script = Deno.mainModule.slice(Deno.mainModule.indexOf("tests/bench"));
  return {
    date: new Date().toISOString().slice(0, 16),
    command: ["deno run -A", script, ...Deno.args].join(" "),
    cpu: cpus()[0].model,
    cores: navigator.hardwareConcurrency,
    memoryGb: Math.round(totalmem() / 1e9),
    os: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
  };
}
