// The program as a process, for the tests of its commands.

const ROOT = new URL("../../", import.meta.url);

/** How a process ended, and all it wrote. */
export interface Outcome {
  readonly code: number;
  readonly bytes: Uint8Array;
  /** `bytes` as text. */
  readonly text: string;
  readonly error: string;
}

/** Where a process runs, and what it reads. */
export interface Surroundings {
  /** Default: this project. */
  readonly folder?: string;
  /** On standard input; nothing by default. */
  readonly input?: string | Uint8Array<ArrayBuffer>;
  /** Variables besides those of the tests' own process. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A process `tinyllama ARGS` with its output piped. */
export function spawn(args: readonly string[], { folder, input, environment }: Surroundings = {}) {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", new URL("main.ts", ROOT).pathname, ...args],
    cwd: folder ?? ROOT,
    env: { ...environment },
    stdin: input === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  });
  return command.spawn();
}

/** Runs `tinyllama ARGS` to its end. */
export async function tinyllama(
  args: readonly string[],
  surroundings: Surroundings = {},
): Promise<Outcome> {
  const { input } = surroundings;
  await using child = spawn(args, surroundings);
  if (input !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(typeof input === "string" ? new TextEncoder().encode(input) : input);
    await writer.close();
  }
  const { code, stdout, stderr } = await child.output();
  const utf8 = new TextDecoder();
  return { code, bytes: stdout, text: utf8.decode(stdout), error: utf8.decode(stderr) };
}
