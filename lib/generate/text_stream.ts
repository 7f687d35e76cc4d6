// Token ids of one sequence to text that is certain: whole characters, nothing of a stop string, nothing that could still
// become one.

import type { StreamDecoder } from "../tokenizer/decoder.ts";

/** Text of ids that arrive one by one, up to the first stop string. */
export class TextStream {
  readonly #decoder: StreamDecoder;
  readonly #stops: readonly string[];
  #held = "";
  #isStopped = false;

  /** @throws {RangeError} for an empty stop string. */
  constructor(decoder: StreamDecoder, stops: readonly string[]) {
    if (stops.includes("")) throw new RangeError("Cannot stop at an empty text");
    this.#decoder = decoder;
    this.#stops = stops;
  }

  /** True when a stop string is complete; nothing that follows is text any more. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** The text that is certain with this id: possibly empty. */
  push(id: number): string {
    return this.#add(this.#decoder.push(id));
  }

  /** What was held back, at the end; an unfinished character becomes U+FFFD. */
  flush(): string {
    const text = this.#add(this.#decoder.flush()) + this.#held;
    this.#held = "";
    return text;
  }

  #add(text: string): string {
    if (this.#isStopped) return "";
    const all = this.#held + text;
    const stop = firstOf(all, this.#stops);
    if (stop >= 0) {
      this.#isStopped = true;
      this.#held = "";
      return all.slice(0, stop);
    }
    const certain = all.length - openLength(all, this.#stops);
    this.#held = all.slice(certain);
    return all.slice(0, certain);
  }
}

/** Where the first of `stops` begins in `text`; −1 when there is none. */
function firstOf(text: string, stops: readonly string[]): number {
  let first = -1;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at >= 0 && (first < 0 || at < first)) first = at;
  }
  return first;
}

/** Length of the longest end of `text` with which one of `stops` begins. */
function openLength(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
