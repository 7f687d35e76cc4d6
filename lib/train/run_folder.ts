// What a run folder says about the run in it: whether one was begun, where it stands, and whether it is the same run.

import { join } from "node:path";
import { FormatError, UsageError } from "../core/errors.ts";
import { readJson } from "../io/json_file.ts";
import { type Checkpoint, checkpointFolders, latestCheckpoint } from "./checkpoint.ts";
import type { RunConfig } from "./config.ts";

/** How far a run is. */
export interface RunProgress {
  /** Steps done. */
  readonly step: number;
  readonly skippedSteps: number;
  /** Skipped steps since the last one that was not. */
  readonly consecutiveSkippedSteps: number;
}

const STATE_FILE = "trainer_state.json";

/**
 * Decides where a run begins: with `resume` at its latest checkpoint, where there is one, so that one command line serves
 * every start of a job; else (null) at the start in a folder without a run. `force` says that an earlier run may go.
 * @throws {UsageError} when both are asked for, when the folder holds a run and neither is, or when it has only damaged
 * checkpoints to resume.
 */
export function chooseStart(
  runFolder: string,
  choice: { readonly resume: boolean; readonly force: boolean },
): Checkpoint | null {
  if (choice.resume && choice.force) {
    throw new UsageError(
      `Cannot resume the run in "${runFolder}" and delete it: expected one of the two`,
    );
  }
  const latest = latestCheckpoint(runFolder);
  if (choice.resume) {
    const [damaged] = checkpointFolders(runFolder);
    if (latest !== null || damaged === undefined) return latest;
    throw new UsageError(
      `Cannot resume "${runFolder}": its checkpoint "${damaged.folder}" is not complete: a file is ` +
        "missing or has another size; restore it, or delete the run with --force",
    );
  }
  if (latest !== null && !choice.force) {
    throw new UsageError(
      `Cannot start in "${runFolder}": it holds a run at step ${latest.step}; continue it with ` +
        `--resume, delete it with --force, or choose another folder with --set run.output=FOLDER`,
    );
  }
  return null;
}

/** Everything that decides the course of a run. A resumed run must agree with the interrupted one in all of it. */
export interface Course
  extends Pick<RunConfig, "seed" | "model" | "batchTokens" | "schedule" | "adamw" | "gradClip"> {
  readonly data: Pick<RunConfig["data"], "sequenceLength" | "weights"> & {
    readonly fingerprint: string;
  };
}

/** The course that a configuration and its data give. */
export function courseOf(config: RunConfig, fingerprint: string): Course {
  const { model, seed, batchTokens, schedule, adamw, gradClip } = config;
  const { sequenceLength, weights } = config.data;
  const data = { sequenceLength, weights, fingerprint };
  return { seed, model, data, batchTokens, schedule, adamw, gradClip };
}

/** Writes trainer_state.json into a checkpoint folder. */
export function writeTrainerState(folder: string, progress: RunProgress, course: Course): void {
  const state = { ...progress, tokens: progress.step * course.batchTokens, course };
  Deno.writeTextFileSync(join(folder, STATE_FILE), JSON.stringify(state, null, 2) + "\n");
}

/**
 * Reads trainer_state.json of a checkpoint folder.
 * @throws {UsageError} when `course` is not that of the run so far, naming each key with both values.
 * @throws {FormatError} when the file is not one of ours.
 */
export function readTrainerState(folder: string, course: Course): RunProgress {
  const path = join(folder, STATE_FILE);
  const state = readJson(path);
  if (!isTrainerState(state)) throw new FormatError(`Cannot resume: "${path}" is not our file`);
  const then = flatten(state.course);
  const now = flatten(course);
  const changes = [...new Set([...then.keys(), ...now.keys()])]
    .filter((key) => then.get(key) !== now.get(key))
    .map((key) =>
      `\n  ${key}: ${then.get(key) ?? "nothing"} then, ${now.get(key) ?? "nothing"} now`
    );
  if (changes.length > 0) {
    throw new UsageError(
      `Cannot resume "${folder}" with another configuration:${changes.join("")}`,
    );
  }
  const { step, skippedSteps, consecutiveSkippedSteps } = state;
  return { step, skippedSteps, consecutiveSkippedSteps };
}

function isTrainerState(value: unknown): value is RunProgress & { readonly course: object } {
  return typeof value === "object" && value !== null &&
    "step" in value && typeof value.step === "number" &&
    "skippedSteps" in value && typeof value.skippedSteps === "number" &&
    "consecutiveSkippedSteps" in value && typeof value.consecutiveSkippedSteps === "number" &&
    "course" in value && typeof value.course === "object" && value.course !== null;
}

/** Leaves of nested data by dotted key, as JSON. */
function flatten(value: object, prefix = ""): Map<string, string> {
  const leaves = new Map<string, string>();
  for (const [key, inner] of Object.entries(value)) {
    if (typeof inner === "object" && inner !== null) {
      for (const [name, leaf] of flatten(inner, `${prefix}${key}.`)) leaves.set(name, leaf);
    } else leaves.set(prefix + key, JSON.stringify(inner));
  }
  return leaves;
}
