// A folder for the files of one test.

/** Runs `body` in a new folder and deletes that afterwards, whatever happens. */
export async function inTempFolder<T>(body: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = Deno.makeTempDirSync();
  try {
    return await body(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}
