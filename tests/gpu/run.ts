// `deno task test:gpu`: everything that must hold on an NVIDIA card. Runs the tests of the cuda device, each group in a
// process of its own because a card that failed once fails until the process ends, then compute-sanitizer where it is.
// Without a card it fails and says what was tried. The outcome goes into docs/gpu/CARD.md.
//
//   deno run -A tests/gpu/run.ts [--only conformance,backend,…] [--output docs/gpu]

// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { TinyllamaError, UsageError } from "../../lib/core/errors.ts";
import { type CardDescription, describeCard, openBenchDevice } from "../bench/gpu_device.ts";
import { stamp, writeSection } from "../bench/gpu_report.ts";
import { type Cell, type Table, tableMarkdown } from "../bench/gpu_table.ts";
import { findSanitizer } from "./sanitizer.ts";

/** Names of tests that run on the card: what else the files hold is left out. */
const FILTER = "/ on cuda\\b/";
const CONFORMANCE = "tests/backend/conformance";
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  conformance: [CONFORMANCE],
  backend: ["tests/backend/cuda_test.ts", "tests/backend/leak_test.ts"],
  model: ["tests/model"],
  train: ["tests/train"],
  gpu: ["tests/gpu"],
  sizes: ["tests/slow/tinyllama_shapes_test.ts"],
};
const SANITIZER_TOOLS = ["memcheck", "racecheck"] as const;
const LIMIT_MS = 560_000;
const isSimulated = Deno.env.get("TINYLLAMA_CUDA_SIM") === "1";
const SUMMARY =
  /^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(?: \(\d+ steps?\))?(?: \| (\d+) ignored)?/m;

/** How one group ended. */
interface Outcome {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** Why it is no success; null when it is one. */
  readonly failure: string | null;
}

/** Runs a command, prints what it prints, and gives that back with its exit code. */
async function run(argv: readonly string[]): Promise<{ code: number; text: string }> {
  const [command, ...args] = argv;
  const signal = AbortSignal.timeout(LIMIT_MS);
  const options = { args, stdout: "piped", stderr: "inherit", signal } as const;
  const env = { TINYLLAMA_CUDA_SIM: isSimulated ? "1" : "0" };
  const child = new Deno.Command(command, { ...options, env }).spawn();
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of child.stdout) {
    Deno.stdout.writeSync(bytes);
    text += decoder.decode(bytes, { stream: true });
  }
  return { code: (await child.status).code, text };
}

function testCommand(paths: readonly string[]): string[] {
  const flags = ["--no-check", "--filter", FILTER];
  return [Deno.execPath(), "test", "-A", ...flags, ...paths];
}

/** On a card nothing may be skipped; nowhere may a group be empty. */
async function runGroup(name: string, argv: readonly string[]): Promise<Outcome> {
  console.log(`\n== ${name}`);
  const start = performance.now();
  const { code, text } = await run(argv);
  // deno-lint-ignore no-control-regex
  const summary = SUMMARY.exec(text.replaceAll(/\x1b\[[\d;]*m/g, ""));
  const [passed, failed, skipped] = (summary ?? []).slice(1).map((one) => Number(one ?? 0));
  const seconds = (performance.now() - start) / 1000;
  const counts = { passed: passed ?? 0, failed: failed ?? 0, skipped: skipped ?? 0 };
  let failure: string | null = null;
  if (code !== 0) failure = `ended with code ${code}`;
  else if (counts.passed === 0) failure = "no test ran";
  else if (counts.skipped > 0 && !isSimulated) failure = `${counts.skipped} tests were skipped`;
  return { name, ...counts, seconds, failure };
}

/** The conformance suite under each tool of compute-sanitizer, which ends with code 9 for what it finds. */
async function sanitize(program: string): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const tool of SANITIZER_TOOLS) {
    const flags = ["--tool", tool, "--error-exitcode", "9", "--print-limit", "20"];
    const argv = [program, ...flags, ...testCommand([CONFORMANCE])];
    outcomes.push(await runGroup(`compute-sanitizer ${tool}`, argv));
  }
  return outcomes;
}

async function openCard(): Promise<CardDescription> {
  try {
    using device = await openBenchDevice();
    return describeCard(device);
  } catch (error) {
    if (!(error instanceof TinyllamaError)) throw error;
    console.error(`Cannot test on a card: there is none.\n${error.message}`);
    Deno.exit(1);
  }
}

function tableOf(outcomes: readonly Outcome[], notes: readonly string[]): Table {
  const row = (one: Outcome): Cell[] => {
    const seconds = Math.round(one.seconds);
    return [one.name, one.passed, one.failed, one.skipped, seconds, one.failure ?? "passed"];
  };
  return {
    title: "Groups of tests",
    columns: ["group", "passed", "failed", "skipped", "seconds", "outcome"],
    rows: outcomes.map(row),
    notes,
  };
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    only: { type: "string", default: [...Object.keys(GROUPS), "sanitizer"].join(",") },
    output: { type: "string", default: "docs/gpu" },
  },
});
const wanted = values.only.split(",");
const unknown = wanted.find((name) => !(name in GROUPS) && name !== "sanitizer");
if (unknown !== undefined) {
  const names = [...Object.keys(GROUPS), "sanitizer"].join(", ");
  throw new UsageError(`Cannot test "${unknown}": expected ${names}`);
}
const card = await openCard();
console.log(`${card.name}, driver for ${card.driver}`);
const outcomes: Outcome[] = [];
for (const [name, paths] of Object.entries(GROUPS)) {
  if (wanted.includes(name)) outcomes.push(await runGroup(name, testCommand(paths)));
}
const notes: string[] = [];
if (wanted.includes("sanitizer")) {
  const { program, tried } = findSanitizer();
  if (program !== null) outcomes.push(...await sanitize(program));
  else {
    console.log(`compute-sanitizer was not found in ${tried}`);
    notes.push("compute-sanitizer was not found, so nothing ran under it.");
  }
}
const table = tableOf(outcomes, notes);
console.log(`\n${tableMarkdown(table)}`);
const failures = outcomes.filter(({ failure }) => failure !== null);
const error = failures.length === 0 ? null : failures.map(({ name }) => name).join(", ");
const content = { ...stamp("test:gpu", Deno.args), tables: [table], error };
console.log(`written to ${writeSection(values.output, card, "tests", content)}`);
Deno.exit(failures.length === 0 ? 0 : 1);
