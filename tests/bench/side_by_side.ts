// Runs several commands in turn (A B C A B C …) and compares the figures in the JSON object each prints last. Commands
// run on one machine in one session, so drift hits all of them alike; ratios are taken round by round. The tables of
// the other files here are made with it, and any two commands can be compared by hand:
//
//   deno run -A tests/bench/side_by_side.ts --metric tokens_per_second --rounds 3 --json out.json \
//     "ours=deno run -A tests/bench/train_bench.ts" "peer=python3 some_script.py --flag 'a b'"

// deno-lint-ignore-file no-console
import { Command } from "commander";
import { describeMachine } from "./machine.ts";
import { median } from "./median.ts";

/** A command to run. */
export interface Contender {
  readonly name: string;
  readonly argv: readonly string[];
}

/** What a command printed, round by round: figures by their key. */
export interface Measured extends Contender {
  readonly rounds: readonly Readonly<Record<string, number>>[];
}

/**
 * Runs the contenders in turn, `rounds` times, and reads the numbers of the last JSON line each prints (objects inside
 * are descended into: `a.b`). Says on stderr what it is at.
 * @throws {Error} when a command fails, with what it printed.
 */
export async function measureInTurn(
  contenders: readonly Contender[],
  rounds: number,
): Promise<Measured[]> {
  const measured = contenders.map((one) => ({
    ...one,
    rounds: new Array<Readonly<Record<string, number>>>(),
  }));
  for (let round = 1; round <= rounds; round++) {
    for (const one of measured) {
      console.error(`round ${round} of ${rounds}: ${one.name}`);
      one.rounds.push(await run(one));
    }
  }
  return measured;
}

/** The median of a figure over the rounds; NaN where it was not printed. */
export function medianOf(measured: Measured, metric: string): number {
  return median(measured.rounds.map((figures) => figures[metric] ?? NaN));
}

/** How many times the figure of `second` fits into that of `first`: the median of the rounds' ratios. */
export function ratioOf(first: Measured, second: Measured, metric: string): number {
  return median(first.rounds.map((figures, i) => figures[metric] / second.rounds[i][metric]));
}

async function run({ name, argv: [command, ...args] }: Contender): Promise<Record<string, number>> {
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
  return numbersIn(JSON.parse(line));
}

function numbersIn(value: object, prefix = ""): Record<string, number> {
  const numbers: Record<string, number> = {};
  for (const [key, one] of Object.entries(value)) {
    if (typeof one === "number") numbers[prefix + key] = one;
    else if (typeof one === "object" && one !== null) {
      Object.assign(numbers, numbersIn(one, `${prefix}${key}.`));
    }
  }
  return numbers;
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
    const figures = one.rounds.map((round) => round[options.metric]);
    const cells = [Math.min(...figures), median(figures), Math.max(...figures)];
    console.log(
      one.name.padEnd(16) + cells.map((cell) => cell.toFixed(2).padStart(10)).join("") +
        ratioOf(first, one, options.metric).toFixed(2).padStart(13),
    );
  }
  if (options.json !== undefined) {
    const report = { ...describeMachine(), metric: options.metric, measured };
    Deno.writeTextFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
  }
}

if (import.meta.main) await main();
