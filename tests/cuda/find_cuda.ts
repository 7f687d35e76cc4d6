// Prints as JSON where the CUDA libraries are found, for the environment that it is started with: the program of
// libraries_test.ts. Arguments are folders to look in first.

// deno-lint-ignore-file no-console
import { closeLibraries, findCuda } from "../../lib/backend/cuda/libraries.ts";

const search = findCuda(Deno.args);
if (search.kind === "found") {
  closeLibraries(search.libraries);
  console.log(JSON.stringify({ paths: search.libraries.paths, reason: null }));
} else {
  console.log(JSON.stringify({ paths: [], reason: search.reason }));
}
