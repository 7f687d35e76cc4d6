// How a long-running command shows where it is: one bar with an ETA on a terminal, plain lines anywhere else.
// Everything goes to stderr; stdout is for results.

/** A line of progress. */
export interface Progress extends Disposable {
  /** `done` of `total` are done, counted in `unit` (default: steps, which need no name); `text` says how it goes. */
  update(done: number, total: number, text: string, unit?: string): void;
  /** Prints a line of its own. */
  line(text: string): void;
}

const MAX_BAR_CELLS = 24;
const MIN_BAR_CELLS = 8;
const PLAIN_INTERVAL_MS = 5000;

/** Seconds as `2h 05m`, `3m 20s` or `12s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const [days, hours] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24];
  const [minutes, rest] = [Math.floor(whole / 60) % 60, whole % 60];
  if (days > 0) return `${days}d ${two(hours)}h`;
  if (hours > 0) return `${hours}h ${two(minutes)}m`;
  return minutes > 0 ? `${minutes}m ${two(rest)}s` : `${rest}s`;
}

/** A speed such as `12.3 MB/s`; empty while nothing has been timed. */
export function speedText(bytes: number, elapsedMs: number): string {
  return bytes > 0 ? `${(bytes / 1000 / Math.max(1, elapsedMs)).toFixed(1)} MB/s` : "";
}

/** Seconds left at the pace since the first update; that one only starts the clock, as start-up belongs to no unit. */
class Pace {
  #first: { readonly done: number; readonly ms: number } | null = null;

  left(done: number, total: number): number | null {
    const ms = performance.now();
    this.#first ??= { done, ms };
    const units = done - this.#first.done;
    return units > 0 ? (ms - this.#first.ms) / units * (total - done) / 1000 : null;
  }
}

/** The bar where stderr is a terminal, else a plain line every few seconds and at the end. */
export function openProgress(isTerminal = Deno.stderr.isTerminal()): Progress {
  return isTerminal ? new Bar() : new PlainLines();
}

function wordsOf(
  { done, total, secondsLeft, unit, text }: {
    readonly done: number;
    readonly total: number;
    readonly secondsLeft: number | null;
    readonly unit: string;
    readonly text: string;
  },
): string {
  const count = `${done}/${total}${unit === "" ? "" : ` ${unit}`}`;
  const eta = secondsLeft === null ? "" : `ETA ${formatDuration(secondsLeft)}`;
  return [count, eta, text].filter((part) => part !== "").join("  ");
}

/**
 * A bar of which the share `done` is full, and `words`, in one line of a terminal. What a narrow one has no room for is
 * first most of the bar, then the end of the words. A terminal of 0 columns does not know its width.
 */
export function barLine(done: number, words: string, columns: number): string {
  const room = columns > 0 ? columns - 1 : Infinity;
  const cells = Math.min(MAX_BAR_CELLS, Math.max(MIN_BAR_CELLS, room - 1 - words.length));
  const full = Math.floor(cells * done);
  return `${"█".repeat(full)}${"░".repeat(cells - full)} ${words}`.slice(0, room);
}

class Bar implements Progress {
  readonly #pace = new Pace();
  #shown = "";

  update(done: number, total: number, text: string, unit = ""): void {
    const words = wordsOf({ done, total, secondsLeft: this.#pace.left(done, total), unit, text });
    this.#show(barLine(done / total, words, Deno.consoleSize().columns));
  }

  line(text: string): void {
    const shown = this.#shown;
    this.#show("");
    writeError(`${text}\n`);
    this.#show(shown);
  }

  #show(text: string): void {
    writeError(`\r\x1b[K${text}`);
    this.#shown = text;
  }

  [Symbol.dispose](): void {
    if (this.#shown !== "") writeError("\n");
    this.#shown = "";
  }
}

class PlainLines implements Progress {
  readonly #pace = new Pace();
  #lastMs = -Infinity;

  update(done: number, total: number, text: string, unit = ""): void {
    const words = wordsOf({ done, total, secondsLeft: this.#pace.left(done, total), unit, text });
    const now = performance.now();
    if (now - this.#lastMs < PLAIN_INTERVAL_MS && done < total) return;
    this.#lastMs = now;
    this.line(words);
  }

  line(text: string): void {
    writeError(`${text}\n`);
  }

  [Symbol.dispose](): void {}
}

function writeError(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}
