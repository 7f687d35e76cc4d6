// deno-lint-ignore-file no-console
// The program: its subcommands, and how errors become messages and exit codes. A subcommand's modules are loaded when it
// is the one asked for, so that starting one costs nothing for the others.

import { Command, CommanderError } from "commander";
import denoJson from "../../deno.json" with { type: "json" };
import { TinyllamaError, UsageError } from "../core/errors.ts";

/** Version of the program, from deno.json. */
export const VERSION: string = denoJson.version;

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  prepare: async () => (await import("./prepare.ts")).prepareCommand(),
  adopt: async () => (await import("./adopt.ts")).adoptCommand(),
  pretrain: async () => (await import("./pretrain.ts")).pretrainCommand(),
  generate: async () => (await import("./generate.ts")).generateCommand(),
  tokenize: async () => (await import("./tokenize.ts")).tokenizeCommand(),
  doctor: async () => (await import("./doctor.ts")).doctorCommand(),
  demo: async () => (await import("./demo.ts")).demoCommand(),
};

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const ABOUT = `
Examples:
  tinyllama demo
  tinyllama prepare docs/ book.txt --output data/mine
  tinyllama pretrain --config configs/train/demo.yaml
  tinyllama generate "Once upon a time" --model runs/demo
  tinyllama COMMAND --help

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 interrupted and can be continued.`;

/** Runs one command line and returns its exit code; messages go to stderr. Only a defect of this program throws. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  try {
    const program = await openProgram(args[0]);
    await program.parseAsync([...args], { from: "user" });
    return Deno.exitCode;
  } catch (error) {
    return exitCodeOf(error);
  }
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function seeHelp(command: string): string {
  return `see: ${command} --help`;
}

/** The program with the subcommand `name`, or with all of them when there is none of that name. */
async function openProgram(name: string | undefined): Promise<Command> {
  const program = new Command("tinyllama")
    .description("Pretrains small Llama models and generates with them")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .addHelpText("after", ABOUT)
    .showSuggestionAfterError()
    .showHelpAfterError(seeHelp("tinyllama"))
    .configureOutput({ writeOut: (text) => void Deno.stdout.writeSync(encode(text)) })
    .exitOverride();
  const isKnown = name !== undefined && Object.hasOwn(COMMANDS, name);
  for (const wanted of isKnown ? [name] : Object.keys(COMMANDS)) {
    const command = await COMMANDS[wanted]();
    program.addCommand(
      command.copyInheritedSettings(program).showHelpAfterError(seeHelp(`tinyllama ${wanted}`)),
    );
  }
  return program;
}

/** Tells the user what went wrong; without a stack trace unless it is a defect of this program. */
function exitCodeOf(error: unknown): number {
  // Commander has already printed what it had to say: help, the version, or a wrong argument.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof Deno.errors.BrokenPipe) return EXIT_FAILED;
  if (error instanceof TinyllamaError) {
    console.error(`error: ${error.message}`);
    return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  }
  if (isOfTheSystem(error)) {
    console.error(`error: ${error.message}`);
    return EXIT_FAILED;
  }
  throw error;
}

/** True for what the operating system refused: the message names the file, a trace would add nothing. */
function isOfTheSystem(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  const { errors } = Deno;
  const kinds = [
    errors.NotFound,
    errors.PermissionDenied,
    errors.AlreadyExists,
    errors.IsADirectory,
    errors.NotADirectory,
    errors.FilesystemLoop,
    errors.NotCapable,
  ];
  const isNodeError = "syscall" in error && "code" in error; // thrown by node:fs
  return isNodeError || kinds.some((kind) => error instanceof kind) ||
    /\(os error \d+\)/.test(error.message);
}
