// Where prompts come from: the argument, standard input, or a file of JSON lines.

import { isUtf8 } from "node:buffer";
import { FormatError, UsageError } from "../core/errors.ts";

/** One prompt and the name its line gave it. */
export interface Prompt {
  readonly text: string;
  /** The `id` of its JSON line, any JSON value; undefined when there is none. */
  readonly id?: unknown;
}

/**
 * The prompts of a command line. `input` is a file of JSON lines, or `-` for standard input. Of a prompt on standard
 * input one line break at the end is not part of it, as `echo` adds it. Without an argument on a terminal the prompt is
 * empty: the model begins a text of its own.
 * @throws {UsageError} when an argument and a file are both given, or the file is not there.
 * @throws {FormatError} when a line of the file is no prompt, with its number, or the text is not UTF-8.
 */
export async function readPrompts(
  argument: string | undefined,
  input: string | undefined,
): Promise<Prompt[]> {
  if (input !== undefined) {
    if (argument === undefined) {
      return input === "-"
        ? parsePrompts(await readStandardInput(), "standard input")
        : parsePrompts(await readFile(input), input);
    }
    throw new UsageError(`Cannot take prompts both from the argument and from "${input}"`);
  }
  const isPiped = argument === "-" || (argument === undefined && !Deno.stdin.isTerminal());
  if (!isPiped) return [{ text: argument ?? "" }];
  return [{ text: (await readStandardInput()).replace(/\r?\n$/, "") }];
}

async function readStandardInput(): Promise<string> {
  const bytes = await new Response(Deno.stdin.readable).arrayBuffer();
  return decode(new Uint8Array(bytes), "standard input");
}

/** UTF-8, without the byte order mark that may stand before it. */
function decode(bytes: Uint8Array, source: string): string {
  if (isUtf8(bytes)) return new TextDecoder().decode(bytes);
  throw new FormatError(`Cannot read prompts from ${source}: it is not UTF-8`);
}

async function readFile(path: string): Promise<string> {
  try {
    return decode(await Deno.readFile(path), `"${path}"`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UsageError(`Cannot read prompts from "${path}": there is no such file`);
  }
}

/**
 * The prompts of JSON lines `{"prompt": "...", "id": ...}`; empty lines are skipped, other keys ignored.
 * @throws {FormatError} naming file and line.
 */
export function parsePrompts(text: string, source: string): Prompt[] {
  const prompts: Prompt[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() !== "") prompts.push(parseLine(line, `${source}:${index + 1}`));
  }
  if (prompts.length > 0) return prompts;
  throw new FormatError(`Cannot read prompts from "${source}": it has no lines`);
}

function parseLine(line: string, place: string): Prompt {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(`Cannot read the prompt at ${place}: it is not valid JSON (${reason})`);
  }
  if (
    typeof value === "object" && value !== null && "prompt" in value &&
    typeof value.prompt === "string"
  ) {
    return { text: value.prompt, id: "id" in value ? value.id : undefined };
  }
  throw new FormatError(
    `Cannot read the prompt at ${place}: got ${line.slice(0, 80)}, expected an object such as ` +
      `{"prompt": "Once upon a time"}`,
  );
}
