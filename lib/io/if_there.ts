// File system calls for which it is no error that nothing is there.

/** What `act` gives; null when what it looks for is not there, be it that a file stands where a folder was meant. */
export function ifThere<T>(act: () => T): T | null {
  try {
    return act();
  } catch (error) {
    const isAbsent = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    if (isAbsent) return null;
    throw error;
  }
}

/** The bytes of a file; null when there is none. */
export function sizeIfThere(path: string): number | null {
  return ifThere(() => Deno.statSync(path).size);
}

/** The names in a folder, sorted; none when nothing is there. @throws {Deno.errors.NotADirectory} for a file. */
export function namesIfThere(folder: string): string[] {
  if (sizeIfThere(folder) === null) return [];
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** Deletes a file, or a folder with all that is in it. */
export function removeIfThere(path: string): void {
  ifThere(() => Deno.removeSync(path, { recursive: true }));
}
