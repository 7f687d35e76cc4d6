// `deno task test:gpu`: everything that must hold on an NVIDIA card. Runs the tests of the cuda device, each group in a
// process of its own because a card that failed once fails until the process ends, then compute-sanitizer where it is.
// Without a card it fails and says what was tried. The outcome goes into docs/gpu/CARD.md after each group.
//
//   deno run -A tests/gpu/run.ts [--only conformance,backend,…] [--minutes 60] [--output docs/gpu]

// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { describeDevice } from "../../lib/backend/cuda/device.ts";
import { TinyllamaError, UsageError } from "../../lib/core/errors.ts";
import { type CardDescription, describeCard, openBenchDevice } from "../bench/gpu_device.ts";
import { stamp, writeSection } from "../bench/gpu_report.ts";
import { type Cell, type Table, tableMarkdown } from "../bench/gpu_table.ts";
import { notStarted, type Outcome, runGroup } from "./group.ts";
import { findSanitizer } from "./sanitizer.ts";

/** Names of tests that run on the card: what else the files hold is left out. */
const FILTER = "/ on cuda\\b/";
const CONFORMANCE = "tests/backend/conformance";
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  open: ["tests/gpu/open_test.ts"],
  conformance: [CONFORMANCE],
  backend: [
    "tests/backend/cuda_test.ts",
    "tests/backend/cuda_views_test.ts",
    "tests/backend/leak_test.ts",
  ],
  model: ["tests/model"],
  train: ["tests/train"],
  gpu: ["tests/gpu"],
  sizes: ["tests/slow/tinyllama_shapes_test.ts"],
};
const SANITIZER_TOOLS = ["memcheck", "racecheck"] as const;
/** Part of the time left that one group may take, so that one which hangs leaves some to the others. */
const SHARE = 1 / 2;
/** Less is not worth starting a group with. */
const LEAST_SECONDS = 15;
const isSimulated = Deno.env.get("TINYLLAMA_CUDA_SIM") === "1";

/** A group and the command that runs it. */
interface Group {
  readonly name: string;
  readonly argv: readonly string[];
}

function testCommand(paths: readonly string[]): string[] {
  const flags = ["--no-check", "--filter", FILTER];
  return [Deno.execPath(), "test", "-A", ...flags, ...paths];
}

/** The conformance suite under each tool of compute-sanitizer, which ends with code 9 for what it finds. */
function sanitizerGroups(program: string): Group[] {
  return SANITIZER_TOOLS.map((tool) => {
    const flags = ["--tool", tool, "--error-exitcode", "9", "--print-limit", "20"];
    const argv = [program, ...flags, ...testCommand([CONFORMANCE])];
    return { name: `compute-sanitizer ${tool}`, argv };
  });
}

async function openCard(): Promise<CardDescription> {
  try {
    using device = await openBenchDevice();
    console.log(describeDevice(device));
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
  const culprits = outcomes.flatMap(({ name, culprits }) =>
    culprits.map((test) => `Failed in ${name}: ${test}.`)
  );
  return {
    title: "Groups of tests",
    columns: ["group", "passed", "failed", "skipped", "seconds", "outcome"],
    rows: outcomes.map(row),
    notes: [...culprits, ...notes],
  };
}

/** What was asked for. @throws {UsageError} */
function readArguments() {
  const known = [...Object.keys(GROUPS), "sanitizer"];
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      only: { type: "string", default: known.join(",") },
      minutes: { type: "string", default: "60" },
      output: { type: "string", default: "docs/gpu" },
    },
  });
  const wanted = values.only.split(","), minutes = Number(values.minutes);
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`Cannot test "${unknown}": expected ${known.join(", ")}`);
  }
  if (!(minutes > 0)) {
    throw new UsageError(`Cannot test for "${values.minutes}" minutes: expected a number above 0`);
  }
  return { wanted, minutes, output: values.output };
}

/** The groups asked for, and what there is to say of those that cannot run. */
function groupsOf(wanted: readonly string[]): { groups: Group[]; notes: string[] } {
  const groups = Object.entries(GROUPS).filter(([name]) => wanted.includes(name))
    .map(([name, paths]) => ({ name, argv: testCommand(paths) }));
  if (!wanted.includes("sanitizer")) return { groups, notes: [] };
  const { program, tried } = findSanitizer();
  if (program !== null) return { groups: [...groups, ...sanitizerGroups(program)], notes: [] };
  console.log(`compute-sanitizer was not found in ${tried}`);
  return { groups, notes: ["compute-sanitizer was not found, so nothing ran under it."] };
}

const { wanted, minutes, output } = readArguments();
const start = performance.now();
const card = await openCard();
const { groups, notes } = groupsOf(wanted);
const outcomes: Outcome[] = [];
let path = "";
for (const [i, { name, argv }] of groups.entries()) {
  const left = 60 * minutes - (performance.now() - start) / 1000;
  const limit = Math.floor(i === groups.length - 1 ? left : SHARE * left);
  const isTime = left >= LEAST_SECONDS;
  const most = Math.max(LEAST_SECONDS, limit);
  outcomes.push(isTime ? await runGroup(name, argv, most, isSimulated) : notStarted(name));
  const failed = outcomes.filter(({ failure }) => failure !== null).map((one) => one.name);
  const unfinished = groups.slice(i + 1).map((one) => one.name);
  const error = [...failed, ...unfinished].join(", ") || null;
  const content = { ...stamp("test:gpu", Deno.args), tables: [tableOf(outcomes, notes)], error };
  path = writeSection(output, card, "tests", content);
}
console.log(`\n${tableMarkdown(tableOf(outcomes, notes))}`);
console.log(`written to ${path}`);
Deno.exit(outcomes.every(({ failure }) => failure === null) ? 0 : 1);
