// The two folders that `tinyllama demo` writes anew each time: its run and its data. It takes nothing from the user that it
// cannot make again.

import { join, resolve } from "node:path";
import { TinyllamaError, UsageError } from "../core/errors.ts";
import { MANIFEST_NAME } from "../data/manifest.ts";
import { ifThere } from "../io/if_there.ts";
import { checkpointFolders } from "../train/checkpoint.ts";
import { type LoadedConfig, loadRunConfig } from "../train/config.ts";
import { parseOverride } from "../train/yaml_file.ts";

/** Lies beside the data that the demo prepared; whoever else prepares into that folder replaces it. */
const MARK_NAME = "demo.txt";
const MARK =
  "The text of this program, prepared by `tinyllama demo`, which replaces this folder.\n";

/**
 * Makes sure that the folders of the demo, whose configuration is `run`, hold nothing or an earlier demo.
 * @throws {UsageError} naming the folder that holds a run or data of another origin.
 */
export function checkDemoFolders(run: LoadedConfig): void {
  const { output, data } = run.config;
  const refuse = (folder: string, what: string): never => {
    throw new UsageError(
      `Cannot run the demo: "${folder}" holds ${what} that it did not make and would replace; ` +
        "rename or delete that folder, or start the demo in another working folder",
    );
  };
  if (holdsRun(output) && !holdsDemoRun(run)) refuse(output, "a run");
  const isTaken = isFile(join(data.path, MANIFEST_NAME));
  if (isTaken && !isFile(join(data.path, MARK_NAME))) refuse(data.path, "prepared data");
}

/** Says in the demo's data whose it is. */
export function markDemoData(folder: string): void {
  Deno.writeTextFileSync(join(folder, MARK_NAME), MARK);
}

function holdsRun(folder: string): boolean {
  return isFile(join(folder, "config.yaml")) || checkpointFolders(folder).length > 0;
}

/** True for a run with the demo's own configuration; it takes as many steps as there is time for. */
function holdsDemoRun({ config, yaml }: LoadedConfig): boolean {
  const path = resolve(config.output, "config.yaml"), { totalSteps } = config.schedule;
  const sameSteps = parseOverride(`horizon.steps=${totalSteps}`);
  const sameThreads = parseOverride(`threads=${config.threads}`);
  try {
    return loadRunConfig(path).config.schedule.totalSteps <= totalSteps &&
      loadRunConfig(path, [sameSteps, sameThreads]).yaml === yaml;
  } catch (error) {
    if (error instanceof TinyllamaError) return false;
    throw error;
  }
}

function isFile(path: string): boolean {
  return ifThere(() => Deno.statSync(path))?.isFile ?? false;
}
