// Cuts PTX text down to the entry points that are used: a driver compiles all that a module holds before anything runs.

/** An entry point as nvcc writes it: nothing else has a closing brace at the beginning of a line. */
const ENTRY = /^\.visible \.entry (?<name>\w+)\([^]*?^\}\n/gm;

/**
 * `ptx` without the entry points that are not in `names`; all else stays, so that a name without an entry is found
 * missing by whoever asks the module for it.
 */
export function withEntries(ptx: string, names: readonly string[]): string {
  return ptx.replace(ENTRY, (entry: string, name: string) => names.includes(name) ? entry : "");
}
