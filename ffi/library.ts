// Opening one of several possible dynamic libraries. Decides nothing: what is missing is returned with what was tried.

/** A library that was opened, or why none of the candidates could be. */
export type OpenedLibrary<S extends Deno.ForeignLibraryInterface> =
  | { readonly kind: "opened"; readonly path: string; readonly library: Deno.DynamicLibrary<S> }
  | { readonly kind: "missing"; readonly tried: readonly string[] };

/** Opens the first candidate (a path or a soname) that loads and has all `symbols`; `tried` is one line a candidate. */
export function openLibrary<S extends Deno.ForeignLibraryInterface>(
  candidates: readonly string[],
  symbols: S,
): OpenedLibrary<S> {
  const tried: string[] = [];
  for (const path of candidates) {
    try {
      return { kind: "opened", path, library: Deno.dlopen(path, symbols) };
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      tried.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { kind: "missing", tried };
}

/** The loader of the C library; glibc before 2.34 has it in a library of its own. */
const LOADER_SYMBOLS = {
  dlopen: {
    parameters: [
      "buffer", // const char *filename
      "i32", // int flags
    ],
    result: "pointer",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Of dlfcn.h, as glibc has them. */
const RTLD_LAZY = 1, RTLD_NOLOAD = 4, RTLD_NODELETE = 0x1000;

/**
 * Keeps a library that was opened under this path in memory until the process ends, closed or not: for libraries that own
 * threads and handlers of the process. Does nothing where the system's loader is not glibc's.
 */
export function keepLoaded(path: string): void {
  const loader = openLibrary(["libc.so.6", "libdl.so.2"], LOADER_SYMBOLS);
  if (loader.kind === "missing") return;
  const name = new TextEncoder().encode(`${path}\0`);
  loader.library.symbols.dlopen(name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  loader.library.close();
}
