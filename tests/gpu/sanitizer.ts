// Where NVIDIA's compute-sanitizer is: on the PATH, or in a CUDA toolkit.

const NAME = "compute-sanitizer";

/** Its path, or null; `tried` names the folders looked in. */
export function findSanitizer(): { readonly program: string | null; readonly tried: string } {
  const homes = [Deno.env.get("CUDA_HOME"), Deno.env.get("CUDA_PATH"), ...toolkits()];
  const folders = [
    ...(Deno.env.get("PATH") ?? "").split(":"),
    ...homes.flatMap((home) => home === undefined ? [] : [`${home}/bin`, `${home}/${NAME}`]),
  ].filter((folder) => folder !== "");
  const program = folders.map((folder) => `${folder}/${NAME}`).find(isFile) ?? null;
  return { program, tried: [...new Set(folders)].join(", ") };
}

function toolkits(): string[] {
  return isFolder("/usr/local")
    ? [...Deno.readDirSync("/usr/local")].map(({ name }) => name)
      .filter((name) => name.startsWith("cuda")).map((name) => `/usr/local/${name}`)
    : [];
}

function isFile(path: string): boolean {
  return statOf(path)?.isFile ?? false;
}

function isFolder(path: string): boolean {
  return statOf(path)?.isDirectory ?? false;
}

function statOf(path: string): Deno.FileInfo | null {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return null;
    }
    throw error;
  }
}
