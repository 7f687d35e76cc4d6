// Results as files: figures under the machine, date and command they come from, since those of two machines do not
// compare.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { basename, dirname, isAbsolute } from "node:path";

/** Writes `figures` with what is known of this machine as JSON to `path`; does nothing without a path. */
export function writeReport(path: string | undefined, figures: object): void {
  if (path === undefined) return;
  const report = { ...describeMachine(), ...figures };
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(report, null, 1)}\n`);
}

/** `command` is what was typed, without the folders of this machine. */
function describeMachine() {
  const script = Deno.mainModule.slice(Deno.mainModule.indexOf("tests/bench"));
  const args = Deno.args.map((arg) => isAbsolute(arg) ? basename(arg) : arg);
  return {
    date: new Date().toISOString().slice(0, 16),
    command: ["deno run -A", script, ...args].join(" "),
    cpu: cpus()[0].model,
    cores: navigator.hardwareConcurrency,
    memoryGb: Math.round(totalmem() / 1e9),
    os: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
  };
}
