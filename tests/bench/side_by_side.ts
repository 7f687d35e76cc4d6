// Runs several commands in turn (A B C A B C …) and compares the figures in the JSON object each prints last. Commands
// take turns on one machine, so drift hits all of them alike; ratios are taken round by round. The tables of
// the other files here are made with it, and any two commands can be compared by hand:
//
//   deno run -A tests/bench/side_by_side.ts --metric tokens_per_second --rounds 3 --json out.json \
//     "ours=deno run -A tests/bench/train_bench.ts" "peer=python3 some_script.py --flag 'a b'"

// deno-lint-ignore-file no-console
import { Command } from "commander";
import { median } from "./median.ts";
import { writeReport } from "./report.ts";

/** A command to run. */
export interface Contender {
  readonly name: string;
  readonly argv: readonly string[];
}

/** What one run printed: figures and texts by their key. */
type Result = Readonly<Record<string, unknown>>;

/** What a command printed, round by round. */
export interface Measured {
  readonly name: string;
  readonly rounds: readonly Result[];
}

/**
 * Runs the contenders in turn, `rounds` times, and reads the last JSON line each prints. Says on stderr what it is at.
 * @throws {Error} when a command fails, with what it printed.
 */
export async function measureInTurn(
  contenders: readonly Contender[],
  rounds: number,
): Promise<Measured[]> {
  const measured = contenders.map(({ name }) => ({ name, rounds: new Array<Result>() }));
  for (let round = 1; round <= rounds; round++) {
    for (const [i, contender] of contenders.entries()) {
      console.error(`round ${round} of ${rounds}: ${contender.name}`);
      measured[i].rounds.push(await run(contender));
    }
  }
  return measured;
}

/** A figure of every round; NaN where it was not printed. */
function figuresOf({ rounds }: Measured, metric: string): number[] {
  return rounds.map(({ [metric]: figure }) => typeof figure === "number" ? figure : NaN);
}

/** The median of a figure over the rounds. */
export function medianOf(measured: Measured, metric: string): number {
  return median(figuresOf(measured, metric));
}

/** How many times the figure of `second` fits into that of `first`: the median of the rounds' ratios. */
export function ratioOf(first: Measured, second: Measured, metric: string): number {
  const below = figuresOf(second, metric);
  return median(figuresOf(first, metric).map((figure, round) => figure / below[round]));
}

async function run({ name, argv: [command, ...args] }: Contender): Promise<Result> {
  const output = await new Deno.Command(command, { args, stdout: "piped", stderr: "piped" })
    .output();
  const decoder = new TextDecoder();
  const text = decoder.decode(output.stdout);
  const line = text.trimEnd().split("\n").findLast((one) => one.startsWith("{"));
  if (output.code !== 0 || line === undefined) {
    throw new Error(
      `"${name}" ended with code ${output.code} and ${line === undefined ? "no" : "a"} result:\n` +
        decoder.decode(output.stderr).slice(-2000),
    );
  }
  return JSON.parse(line);
}

function parseContender(text: string): Contender {
  const at = text.indexOf("=");
  const argv = text.slice(at + 1).match(/(?:[^\s']+|'[^']*')+/g)?.map((a) => a.replaceAll("'", ""));
  if (at < 1 || argv === undefined) {
    throw new RangeError(`Cannot read "${text}": expected NAME=COMMAND ARGS`);
  }
  return { name: text.slice(0, at), argv };
}

async function main(): Promise<void> {
  const program = new Command("side_by_side")
    .argument("<name=command...>", "what to run; the first is compared with each other")
    .requiredOption("--metric <key>", "number to read from each command's last JSON line")
    .option("--rounds <n>", "how often each runs", "3")
    .option("--json <file>", "write the figures here")
    .parse();
  const options = program.opts<{ metric: string; rounds: string; json?: string }>();
  const measured = await measureInTurn(program.args.map(parseContender), Number(options.rounds));
  const [first] = measured;
  console.log(`${options.metric}          least    median      most   first/this`);
  for (const one of measured) {
    const figures = figuresOf(one, options.metric);
    const cells = [Math.min(...figures), median(figures), Math.max(...figures)];
    console.log(
      one.name.padEnd(16) + cells.map((cell) => cell.toFixed(2).padStart(10)).join("") +
        ratioOf(first, one, options.metric).toFixed(2).padStart(13),
    );
  }
  writeReport(options.json, { metric: options.metric, measured });
}

if (import.meta.main) await main();
