// The command line: the arguments choose one command, its outcome is the exit code. No logic here.

import { runCommandLine } from "./lib/cli/program.ts";

if (import.meta.main) Deno.exitCode = await runCommandLine(Deno.args);
