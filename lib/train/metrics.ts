// The record of a run on disk: metrics.jsonl with one line a step and validation.jsonl with one line an evaluation.

import { join } from "node:path";

/** One line of metrics.jsonl. */
export interface StepMetrics {
  readonly step: number;
  /** Tokens trained on after this step. */
  readonly tokens: number;
  /** Mean cross-entropy in nats before the update; null when not finite. */
  readonly loss: number | null;
  readonly lr: number;
  /** Before clipping; null when not finite. */
  readonly grad_norm: number | null;
  readonly tokens_per_second: number;
  /** By the formula in model/flops.ts: recomputation is not counted. */
  readonly gflops_per_second: number;
  /** Device memory in use. */
  readonly memory_bytes: number;
  /** Steps skipped so far because something was not finite. */
  readonly skipped: number;
  /** Since this process began to train. */
  readonly elapsed_seconds: number;
}

/** One line of validation.jsonl. */
export interface ValidationMetrics {
  readonly step: number;
  readonly tokens: number;
  /** Mean cross-entropy per token of each source's held-out text, in nats. */
  readonly loss: Readonly<Record<string, number>>;
  /** Tokens each of them was measured on. */
  readonly evaluated_tokens: Readonly<Record<string, number>>;
}

/** The two files of one run folder. */
export class MetricsLog {
  readonly #steps: string;
  readonly #validation: string;

  /** Continues the files of `folder`; lines of steps after `lastStep` are dropped, as they will be written again. */
  constructor(folder: string, lastStep: number) {
    this.#steps = join(folder, "metrics.jsonl");
    this.#validation = join(folder, "validation.jsonl");
    for (const path of [this.#steps, this.#validation]) dropLinesAfter(path, lastStep);
  }

  step(line: StepMetrics): void {
    append(this.#steps, line);
  }

  validation(line: ValidationMetrics): void {
    append(this.#validation, line);
  }
}

function dropLinesAfter(path: string, lastStep: number): void {
  Deno.writeTextFileSync(path, "", { append: true });
  const kept = Deno.readTextFileSync(path).split("\n").filter((line) => stepOf(line) <= lastStep);
  Deno.writeTextFileSync(path, kept.map((line) => `${line}\n`).join(""));
}

/** The step of a line; a line cut off by a crash has none and counts as later than all. */
function stepOf(line: string): number {
  return Number(/^\{"step":(\d+),.*\}$/.exec(line)?.[1] ?? Infinity);
}

function append(path: string, line: StepMetrics | ValidationMetrics): void {
  Deno.writeTextFileSync(path, `${JSON.stringify(line)}\n`, { append: true });
}
