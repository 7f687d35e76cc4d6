// One group of tests as a process of its own: what it prints goes on as it comes, and its outcome is read from that.

// deno-lint-ignore-file no-console

/** How one group ended. */
export interface Outcome {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** Why it is no success; null when it is one. */
  readonly failure: string | null;
  /** Names of the tests and steps that failed. */
  readonly culprits: readonly string[];
}

/** Of `timeout`: the command was stopped, or it and all that it started were killed. */
const STOPPED_CODES = [124, 137];
/** Between asking a command to stop and killing it. */
const GRACE_SECONDS = 10;
const SUMMARY =
  /^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(?: \(\d+ steps?\))?(?: \| (\d+) ignored)?/m;
const PASSED = /^\S.* \.\.\. ok\b/gm, FAILED = /^\S.* \.\.\. FAILED\b/gm;
const CULPRIT = /^ *(\S.*) \.\.\. FAILED\b/gm;

/** Prints what the command prints, and gives that back with its exit code. */
async function run(
  argv: readonly string[],
  limitSeconds: number,
  env: Record<string, string>,
): Promise<{ code: number; text: string }> {
  // It ends what the command has started as well, which may hold the pipe open or the card.
  const args = ["-k", String(GRACE_SECONDS), String(limitSeconds), ...argv];
  const options = { args, stdout: "piped", stderr: "inherit" } as const;
  const colors = { NO_COLOR: "1" };
  const child = new Deno.Command("timeout", { ...options, env: { ...env, ...colors } }).spawn();
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of child.stdout) {
    Deno.stdout.writeSync(bytes);
    text += decoder.decode(bytes, { stream: true });
  }
  return { code: (await child.status).code, text };
}

/** Passed, failed and skipped tests: those of the summary, or where there is none, of the lines so far. */
function countsOf(text: string): Pick<Outcome, "passed" | "failed" | "skipped"> {
  const summary = SUMMARY.exec(text);
  if (summary === null) {
    const count = (pattern: RegExp) => [...text.matchAll(pattern)].length;
    return { passed: count(PASSED), failed: count(FAILED), skipped: 0 };
  }
  const [passed, failed, skipped] = summary.slice(1).map((one) => Number(one ?? 0));
  return { passed, failed, skipped };
}

/** The outcome of what a command of tests printed. `mayHaveSkipped` allows tests that were skipped, but never no test. */
export function outcomeOf(
  name: string,
  { code, text }: { readonly code: number; readonly text: string },
  seconds: number,
  mayHaveSkipped: boolean,
): Outcome {
  const counts = countsOf(text);
  const culprits = Array.from(text.matchAll(CULPRIT), ([, test]) => test);
  let failure: string | null = null;
  if (STOPPED_CODES.includes(code)) failure = `stopped after ${Math.round(seconds)} s`;
  else if (code !== 0) failure = `ended with code ${code}`;
  else if (counts.passed === 0) failure = "no test ran";
  else if (counts.skipped > 0 && !mayHaveSkipped) failure = `${counts.skipped} tests were skipped`;
  return { name, ...counts, seconds, failure, culprits: [...new Set(culprits)] };
}

/** Runs a group for at most `limitSeconds`. On a card nothing may be skipped; nowhere may a group be empty. */
export async function runGroup(
  name: string,
  argv: readonly string[],
  limitSeconds: number,
  isSimulated: boolean,
): Promise<Outcome> {
  console.log(`\n== ${name} (at most ${limitSeconds} s)`);
  const start = performance.now();
  const env = { TINYLLAMA_CUDA_SIM: isSimulated ? "1" : "0" };
  const ended = await run(argv, limitSeconds, env);
  const outcome = outcomeOf(name, ended, (performance.now() - start) / 1000, isSimulated);
  console.log(`== ${name}: ${outcome.failure ?? "passed"} in ${Math.round(outcome.seconds)} s`);
  return outcome;
}

/** A group for which no time was left. */
export function notStarted(name: string): Outcome {
  const failure = "not started: the time was up";
  console.log(`\n== ${name}: ${failure}`);
  return { name, passed: 0, failed: 0, skipped: 0, seconds: 0, failure, culprits: [] };
}
