// The benches of a CUDA card, one after another, each in a process of its own: prints tables and writes them to
// docs/gpu/CARD.json and CARD.md. A part that fails is recorded and the next one goes on; the exit code is then 1.
//
//   deno run -A tests/bench/gpu_bench.ts [--only train,attention,decode,kernels,start] [--torch PYTHON]
//     [--output docs/gpu] [--tiny]
//
// Without --only all parts but `start` run, which writes 2.2 GB. --torch names a Python with PyTorch, the peer. --tiny is
// for the simulator.

// deno-lint-ignore-file no-console
import { join } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../lib/core/errors.ts";
import type { CardDescription } from "./gpu_device.ts";
import { checkTorch } from "./gpu_peer.ts";
import { type Section, SECTIONS, stamp, writeSection } from "./gpu_report.ts";
import { type Table, tableMarkdown } from "./gpu_table.ts";

const PART = join(import.meta.dirname ?? ".", "gpu_part.ts");
const PART_LIMIT_MS = 540_000;
const DEFAULT_PARTS = "attention,kernels,decode,train";

/** What a part printed, or the end of what it said when it failed. */
type Outcome<T> =
  | { readonly kind: "done"; readonly value: T }
  | { readonly kind: "failed"; readonly error: string };

async function runPart<T>(part: string, flags: readonly string[]): Promise<Outcome<T>> {
  const limit = AbortSignal.timeout(PART_LIMIT_MS);
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", PART, part, ...flags],
    stdout: "piped",
    stderr: "piped",
    signal: limit,
    env: { NO_COLOR: "1" },
  });
  const { success, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  if (success) return { kind: "done", value: JSON.parse(decoder.decode(stdout)) };
  const words = decoder.decode(stderr).trim().split("\n").slice(0, 20).join("\n");
  const late = limit.aborted ? `it took longer than ${PART_LIMIT_MS / 1000} s\n` : "";
  return { kind: "failed", error: late + words };
}

function partsOf(text: string): Section[] {
  return text.split(",").map((name) => {
    const part = SECTIONS.find((one) => one === name && one !== "tests");
    if (part !== undefined) return part;
    throw new UsageError(`Cannot measure "${name}": expected ${SECTIONS.slice(1).join(", ")}`);
  });
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    only: { type: "string", default: DEFAULT_PARTS },
    torch: { type: "string" },
    output: { type: "string", default: "docs/gpu" },
    tiny: { type: "boolean", default: false },
  },
});
const parts = partsOf(values.only);
if (values.torch !== undefined) await checkTorch(values.torch);
const flags = [
  ...(values.tiny ? ["--tiny"] : []),
  ...(values.torch === undefined ? [] : ["--torch", values.torch]),
];
const card = await runPart<CardDescription>("card", flags);
if (card.kind === "failed") {
  console.error(card.error);
  Deno.exit(1);
}
let path = "";
for (const part of parts) {
  console.error(`measuring ${part}`);
  const start = performance.now();
  const outcome = await runPart<readonly Table[]>(part, flags);
  const tables = outcome.kind === "done" ? outcome.value : [];
  const error = outcome.kind === "done" ? null : outcome.error;
  const made = stamp("bench:gpu", Deno.args);
  path = writeSection(values.output, card.value, part, { ...made, tables, error });
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log([...tables.map(tableMarkdown), `${part}: ${seconds} s`].join("\n\n"));
  if (error === null) continue;
  console.error(`${part} failed:\n${error}`);
  Deno.exitCode = 1;
}
console.log(`written to ${path}`);
