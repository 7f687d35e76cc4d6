// deno-lint-ignore-file no-console
// Runs several commands in turn (A B C A B C …) and compares one number of the JSON object each prints last. Commands run
// on one machine in one session, so drift hits all of them alike; the ratios are taken round by round.
//
//   deno run -A tests/bench/side_by_side.ts --metric tokens_per_second --rounds 3 --json out.json \
//     "ours=deno run -A tests/bench/train_bench.ts --preset nano-15m" "torch=python3 torch_llama.py train --preset nano-15m"

import { Command } from "commander";

interface Contender {
  readonly name: string;
  readonly argv: readonly string[];
  readonly values: number[];
}

function parseContender(text: string): Contender {
  const at = text.indexOf("=");
  const argv = text.slice(at + 1).match(/(?:[^\s']+|'[^']*')+/g)?.map((a) => a.replaceAll("'", ""));
  if (at < 1 || argv === undefined) {
    throw new RangeError(`Cannot read "${text}": expected NAME=COMMAND ARGS`);
  }
  return { name: text.slice(0, at), argv, values: [] };
}

/** The number `metric` (dots descend) in the last JSON line a command printed. */
function readMetric(output: string, metric: string): number {
  const line = output.trimEnd().split("\n").findLast((l) => l.startsWith("{"));
  let value: unknown = line === undefined ? undefined : JSON.parse(line);
  for (const key of metric.split(".")) {
    value = typeof value === "object" && value !== null
      ? Object.entries(value).find(([k]) => k === key)?.[1]
      : undefined;
  }
  if (typeof value !== "number") {
    throw new TypeError(`Cannot find the number "${metric}" in:\n${output.slice(-2000)}`);
  }
  return value;
}

async function measure(contender: Contender, metric: string): Promise<number> {
  const [command, ...args] = contender.argv;
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) {
    throw new Error(`"${contender.name}" ended with code ${code}:\n${decoder.decode(stderr)}`);
  }
  return readMetric(decoder.decode(stdout), metric);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function cpuName(): string {
  const text = Deno.build.os === "linux" ? Deno.readTextFileSync("/proc/cpuinfo") : "";
  return text.match(/model name\s*:\s*(.+)/)?.[1] ?? `${Deno.build.os} ${Deno.build.arch}`;
}

async function main(): Promise<void> {
  const program = new Command("side_by_side")
    .argument("<name=command...>", "what to run; the first is compared with each other")
    .requiredOption("--metric <key>", "number to read from each command's last JSON line")
    .option("--rounds <n>", "counted rounds", "3")
    .option("--json <file>", "write the figures here")
    .parse();
  const options = program.opts<{ metric: string; rounds: string; json?: string }>();
  const contenders = program.args.map(parseContender);
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const contender of contenders) {
      const value = await measure(contender, options.metric);
      contender.values.push(value);
      console.error(`round ${round + 1}: ${contender.name} ${value}`);
    }
  }
  const [first] = contenders;
  const rows = contenders.map(({ name, argv, values }) => ({
    name,
    command: argv.join(" "),
    minimum: Math.min(...values),
    median: median(values),
    maximum: Math.max(...values),
    firstOverThis: median(values.map((value, i) => first.values[i] / value)),
  }));
  console.log(`${options.metric} on ${cpuName()}, ${navigator.hardwareConcurrency} cores`);
  for (const row of rows) {
    const figures = [row.minimum, row.median, row.maximum].map((v) => v.toFixed(2).padStart(10));
    console.log(`${row.name.padEnd(16)}${figures.join("")}   ${row.firstOverThis.toFixed(2)}`);
  }
  if (options.json !== undefined) {
    const report = {
      metric: options.metric,
      date: new Date().toISOString().slice(0, 10),
      cpu: cpuName(),
      cores: navigator.hardwareConcurrency,
      rows,
    };
    await Deno.writeTextFile(options.json, JSON.stringify(report, null, 1) + "\n");
  }
}

await main();
