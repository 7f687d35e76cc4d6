// A run that sends its own process a signal after step 2 and prints the step it ended with: the program of
// signal_test.ts, because inside `deno test` the event loop is never as busy as in a command.

// deno-lint-ignore-file no-console
import { pretrain } from "../../lib/train/pretrain.ts";
import { chooseStart } from "../../lib/train/run_folder.ts";
import { congruentialSamples, openCpu, SMALL_RUN } from "./training_setup.ts";

const STEP_MS = 50;

const stop = new AbortController();
Deno.addSignalListener("SIGTERM", () => stop.abort());
using backend = await openCpu(1, "cpu:wasm");
const config = {
  ...SMALL_RUN,
  output: Deno.args[0],
  schedule: { ...SMALL_RUN.schedule, totalSteps: 200 },
  evaluation: { ...SMALL_RUN.evaluation, everySteps: 200 },
  checkpoint: { ...SMALL_RUN.checkpoint, everySteps: 200 },
};
const { step } = await pretrain({
  run: { config, yaml: "" },
  backend,
  data: {
    samples: { ...congruentialSamples(64, 16), describe: String },
    heldOut: [],
    fingerprint: "rule",
  },
  saveTokenizer: () => Promise.resolve(),
  start: chooseStart(config.output, { resume: false, force: false }),
  signal: stop.signal,
  hooks: {
    onStep: (metrics) => {
      if (metrics.step === 2) Deno.kill(Deno.pid, "SIGTERM");
      // As busy as with a model of some size: the system delivers signals in its own time.
      const endMs = performance.now() + STEP_MS;
      while (performance.now() < endMs);
    },
  },
});
console.log(step);
Deno.exit(0);
