// A YAML file that knows where each key stands, so that every mistake in it is reported with its line, all at once.
// It checks shapes against a zod schema; what the keys mean is the business of config.ts.

import { isCollection, isMap, isScalar, LineCounter, parse, parseDocument } from "yaml";
import type { z } from "zod";
import { UsageError } from "../core/errors.ts";
import { quote } from "../core/quote.ts";

type Path = readonly (string | number)[];

const MAX_BYTES = 1 << 20;
const SHOWN_MISTAKES = 20;
/** What the parser reports where its recursion ends. */
const TOO_DEEP = /Maximum call stack|Stack overflow/;

/** One `--set key=value` of the command line: dotted key, YAML value. */
export interface Override {
  readonly path: readonly string[];
  readonly value: unknown;
  /** The flag as it was written, for messages. */
  readonly flag: string;
}

/**
 * Reads `a.b=value`; the value is YAML, so `3e-4` is a number, `null` is null and `[1, 2]` a list. `flag` is how the user
 * wrote it.
 * @throws {UsageError} when there is no key or no `=`.
 */
export function parseOverride(text: string, flag = `--set ${text}`): Override {
  const equals = text.indexOf("=");
  const path = text.slice(0, Math.max(equals, 0)).split(".").map((part) => part.trim());
  if (equals < 0 || path.includes("")) {
    throw new UsageError(`Cannot use ${flag}: expected KEY=VALUE, such as optimizer.lr=3e-4`);
  }
  try {
    const value: unknown = parse(text.slice(equals + 1));
    return { path, value, flag };
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new UsageError(`Cannot use ${flag}: the value is not YAML: ${reason}`);
  }
}

/**
 * Reads the YAML file `path`.
 * @throws {UsageError} when it is no YAML mapping, with line and column, or longer than a person would write.
 */
export function readYamlFile(path: string): YamlFile {
  const { size } = Deno.statSync(path);
  if (size <= MAX_BYTES) return new YamlFile(path, Deno.readTextFileSync(path));
  throw new UsageError(
    `Cannot use "${path}": it has ${size} bytes, expected a configuration of at most ${MAX_BYTES}`,
  );
}

/** A parsed YAML mapping with the overrides applied to it. */
export class YamlFile {
  readonly path: string;
  readonly #document: ReturnType<typeof parseDocument>;
  readonly #lines = new LineCounter();
  readonly #overrides: Override[] = [];
  readonly #mistakes: string[] = [];

  /**
   * Parses `text`; `path` names it in messages.
   * @throws {UsageError} when it is not YAML or not a mapping, with line and column.
   */
  constructor(path: string, text: string) {
    this.path = path;
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    const { errors } = this.#document;
    const tooDeep = errors.find(({ message }) => TOO_DEEP.test(message));
    for (const { pos, message } of tooDeep === undefined ? errors : [tooDeep]) {
      const what = tooDeep === undefined ? message : "nested too deeply";
      this.#mistakes.push(`${this.#position(pos[0])}: ${what}`);
    }
    if (this.#mistakes.length === 0 && !isMap(this.#document.contents)) {
      this.#mistakes.push(`${path}:1:1: expected a mapping of keys to values`);
    }
    this.throwMistakes();
  }

  /** Applies an override; what it sets is reported under the flag instead of a line. */
  set(override: Override): void {
    for (let depth = 1; depth < override.path.length; depth++) {
      const parent = override.path.slice(0, depth);
      const node = this.#document.getIn(parent, true);
      if (node === undefined || isCollection(node)) continue;
      const key = parent.join(".");
      throw new UsageError(`Cannot use ${override.flag}: "${key}" has no keys below it`);
    }
    this.#document.setIn(override.path, this.#document.createNode(override.value));
    this.#overrides.push(override);
  }

  /** The value at a path as plain data; undefined when there is none. */
  get(path: Path): unknown {
    let value = this.#plain();
    for (const key of path) {
      if (typeof value !== "object" || value === null) return undefined;
      value = new Map<string, unknown>(Object.entries(value)).get(String(key));
    }
    return value;
  }

  /**
   * The content checked against `schema`, whose messages say what was wanted. `keys` lists the known keys of each
   * mapping by its dotted path, for suggestions.
   * @throws {UsageError} listing every mistake.
   */
  check<T>(schema: z.ZodType<T>, keys: Readonly<Record<string, readonly string[]>>): T {
    const result = schema.safeParse(this.#plain());
    if (result.success) return result.data;
    for (const issue of result.error.issues) {
      const path = issue.path.map((part) => typeof part === "symbol" ? String(part) : part);
      if (issue.code === "unrecognized_keys") {
        for (const key of issue.keys) this.#unknownKey(path, key, keys[path.join(".")] ?? []);
      } else this.mistake(path, `expected ${issue.message}`);
    }
    this.throwMistakes();
    throw new UsageError(`Cannot use "${this.path}"`);
  }

  /** Notes that the value at `path` is not what was wanted; `throwMistakes` reports it. */
  mistake(path: Path, wanted: string): void {
    const value = this.get(path);
    const found = value === undefined ? "is missing" : `is ${quote(value)}`;
    this.#mistakes.push(`${this.#where(path)}: "${path.join(".")}" ${found}, ${wanted}`);
  }

  /** @throws {UsageError} with all mistakes noted so far, if there are any. */
  throwMistakes(): void {
    if (this.#mistakes.length === 0) return;
    const count = this.#mistakes.length;
    const title = `Cannot use "${this.path}": ${count} mistake${count === 1 ? "" : "s"}`;
    const shown = this.#mistakes.slice(0, SHOWN_MISTAKES);
    if (count > shown.length) shown.push(`and ${count - shown.length} more`);
    throw new UsageError([title, ...shown.map((line) => `  ${line}`)].join("\n"));
  }

  /** The content as plain data. */
  #plain(): unknown {
    try {
      return this.#document.toJS();
    } catch (error) {
      if (!(error instanceof ReferenceError)) throw error;
      throw new UsageError(`Cannot use "${this.path}": ${error.message}`);
    }
  }

  #unknownKey(parent: Path, key: string, known: readonly string[]): void {
    const path = [...parent, key];
    const close = closest(key, known);
    const prefix = parent.length > 0 ? `${parent.join(".")}.` : "";
    const hint = close === null
      ? `known keys are ${known.join(", ")}`
      : `did you mean "${prefix}${close}"?`;
    this.#mistakes.push(`${this.#where(path)}: unknown key ${quote(path.join("."))}, ${hint}`);
  }

  /** Where the key of `path` stands, or the nearest mapping around it: a place in the file, or the flag that set it. */
  #where(path: Path): string {
    const names = path.map(String);
    const set = this.#overrides.findLast((one) => isPrefix(one.path, names));
    if (set !== undefined) return set.flag;
    for (let depth = names.length; depth > 0; depth--) {
      const parent = depth === 1
        ? this.#document.contents
        : this.#document.getIn(path.slice(0, depth - 1), true);
      if (!isMap(parent)) continue;
      const keys = parent.items.map(({ key }) => key);
      const key = keys.find((one) => String(isScalar(one) ? one.value : one) === names[depth - 1]);
      if (isScalar(key) && key.range) return this.#position(key.range[0]);
      const made = this.#overrides.find((one) => isPrefix(names.slice(0, depth), one.path));
      if (made !== undefined) return made.flag;
    }
    return `${this.path}:1:1`;
  }

  #position(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.path}:${line}:${col}`;
  }
}

function isPrefix(start: readonly string[], path: readonly string[]): boolean {
  return start.every((name, i) => path[i] === name);
}

/**
 * The known word closest to `word`: few letters away, or with the same words between underscores, or their initials
 * (learning_rate is lr); null when none is.
 */
function closest(word: string, known: readonly string[]): string | null {
  const near = known.map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .filter(({ candidate, distance }) => distance <= Math.max(1, Math.ceil(candidate.length / 4)))
    .sort((a, b) => a.distance - b.distance);
  if (near.length > 0) return near[0].candidate;
  const words = word.split("_");
  const initials = words.map((part) => part[0]).join("");
  return known.find((candidate) => {
    const others = candidate.split("_");
    return candidate === initials || words.every((part) => others.includes(part)) ||
      others.every((part) => words.includes(part));
  }) ?? null;
}

/** Insertions, deletions and replacements that turn `a` into `b` (Levenshtein 1966). */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, previous[j] + 1, current[j - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}
