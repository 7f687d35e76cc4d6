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
