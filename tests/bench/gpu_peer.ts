// PyTorch on the same card: runs peers/torch_gpu.py in a process of its own and reads the JSON line it prints. A peer that
// fails leaves its cells empty and says why, because hours on a card are few.

import { join } from "node:path";
import { UsageError } from "../../lib/core/errors.ts";
import type { BenchSizes } from "./gpu_sizes.ts";

const SCRIPT = join(import.meta.dirname ?? ".", "peers/torch_gpu.py");
const LIMIT_MS = 400_000;

/** Figures by name, or why there are none. */
export type PeerResult =
  | {
    readonly kind: "measured";
    readonly name: string;
    readonly figures: Readonly<Record<string, number>>;
  }
  | { readonly kind: "missing"; readonly reason: string };

/** @throws {UsageError} for a Python without PyTorch or a PyTorch without a card, before minutes are spent on it. */
export async function checkTorch(python: string): Promise<void> {
  const program = "import torch; assert torch.cuda.is_available(), 'PyTorch finds no card'";
  const words = await complaintOf(python, program);
  if (words !== null) throw new UsageError(`Cannot use --torch ${python}: ${words}`);
}

/** What a Python says of a program that fails; null when it does not fail. */
async function complaintOf(python: string, program: string): Promise<string | null> {
  try {
    const { success, stderr } = await new Deno.Command(python, { args: ["-c", program] }).output();
    return success ? null : new TextDecoder().decode(stderr).trim().split("\n").at(-1) ?? "";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no such program";
    throw error;
  }
}

/** Runs one mode of the script with a Python that has torch; `python` undefined means that nobody asked for it. */
export async function runTorch(
  python: string | undefined,
  mode: "train" | "attention" | "decode",
  sizes: BenchSizes,
): Promise<PeerResult> {
  if (python === undefined) return { kind: "missing", reason: "not asked for: --torch PYTHON" };
  const flags = ["--batch", sizes.batch, "--length", sizes.length, "--steps", sizes.steps];
  const more = ["--depth", sizes.depth, "--new", sizes.fresh, "--prompt", sizes.prompt];
  const command = new Deno.Command(python, {
    args: [SCRIPT, mode, "--model", sizes.modelPath, ...[...flags, ...more].map(String)],
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(LIMIT_MS),
  });
  const { success, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  const line = decoder.decode(stdout).trimEnd().split("\n").findLast((one) => one.startsWith("{"));
  if (!success || line === undefined) {
    const words = decoder.decode(stderr).trim().split("\n").slice(-3).join(" ");
    return { kind: "missing", reason: `PyTorch failed: ${words}` };
  }
  const { peer, ...figures } = JSON.parse(line);
  return { kind: "measured", name: peer, figures };
}

/** A figure of a peer; null where it has none. */
export function figureOf(result: PeerResult, key: string): number | null {
  return result.kind === "measured" ? result.figures[key] ?? null : null;
}

/** A line for the table's notes: who the peer is, or why its cells are empty. */
export function peerNote(result: PeerResult): string {
  return result.kind === "measured" ? `Peer: ${result.name}.` : `No peer (${result.reason}).`;
}

/** ours / theirs; null without a peer. */
export function ratio(ours: number, theirs: number | null): number | null {
  return theirs === null ? null : ours / theirs;
}
