// deno-lint-ignore-file no-console
// `tinyllama adopt`: chunk files of another program in, a manifest and a tokenizer beside them out.

import { Command } from "commander";
import { adopt, type AdoptOptions } from "../data/adopt.ts";
import { skippedText, tableText } from "./data_table.ts";
import { openProgress, type Progress, speedText } from "./progress.ts";
import { interruptible } from "./signals.ts";

const EXAMPLES = `
Examples:
  tinyllama adopt data/slim_star_combined
  tinyllama adopt data/redpajama --tokenizer TinyLlama-1.1B
  tinyllama prepare --verify --output data/slim_star_combined

For chunk files of the original TinyLlama code and of its relatives, such as train_slimpajama_0_0000000000.bin (part,
source, process, number) or arxiv_0000000000.bin (source, number; all for training). Each is read once, checked and
counted; none is changed. Padding at the end of a file is left unused. Train on the folder with
--set data.path=FOLDER --set "data.weights={slimpajama: 0.7, starcoder: 0.3}".`;

/** The subcommand. */
export function adoptCommand(): Command {
  return new Command("adopt")
    .description("Make packed data of another program ready to pretrain on")
    .argument("<folder>", "where the chunk files lie; a manifest is written beside them")
    .option("--tokenizer <folder>", "what made the tokens (default: found beside them, or Llama's)")
    .option("--json", "one JSON object on stdout instead of a table")
    .addHelpText("after", EXAMPLES)
    .action(run);
}

async function run(
  folder: string,
  flags: { readonly tokenizer?: string; readonly json?: true },
): Promise<void> {
  using stop = interruptible("Interrupted: nothing was written");
  using progress = openProgress();
  const { manifest, skipped, notes } = await adopt({
    folder,
    tokenizer: flags.tokenizer ?? null,
    signal: stop.signal,
    onProgress: shows(progress),
  });
  progress[Symbol.dispose]();
  if (flags.json) return console.log(JSON.stringify({ output: folder, manifest, skipped, notes }));
  const noted = notes.map((note) => `\nnote: ${note}`).join("");
  console.log(`${skippedText(skipped)}${tableText(manifest)}${noted}\nAdopted ${folder}`);
}

/** Shows files read with the speed since the first of them. */
function shows(progress: Progress): NonNullable<AdoptOptions["onProgress"]> {
  let first: { readonly ms: number; readonly bytes: number } | null = null;
  return (files, totalFiles, bytes) => {
    const ms = performance.now();
    first ??= { ms, bytes };
    const speed = speedText(bytes - first.bytes, ms - first.ms);
    progress.update(files, totalFiles, speed, "chunk files");
  };
}
