// The text of the demonstration: this program's own. Documents and comments are prose; sources without their comment
// lines are code, so that no held-out sentence of one source stands in the training text of the other.

import { dirname, extname, join, relative } from "node:path";
import { type CorpusPath, surveyCorpus } from "../data/corpus.ts";

const OWN_PATHS =
  "README.md CHANGELOG.md CONTRIBUTING.md LICENSE main.ts mod.ts configs docs ffi kernels lib tests"
    .split(" ");
/** Files whose comments are those of C. */
const C_LIKE = new Set([".ts", ".c", ".h", ".cu", ".wgsl"]);
const COMMENT = /^\s*(\/\/+|\/\*+|\*\/|\*(?=\s|$))\s?/;

/** Writes the text of the program in `root` into `folder`, as the sources prose and code; returns their paths. */
export async function writeDemoText(root: string, folder: string): Promise<CorpusPath[]> {
  const own = OWN_PATHS.map((name) => ({ path: join(root, name), source: null }));
  const { sources } = await surveyCorpus(own, [], () => Promise.resolve());
  for (const { name, documents } of sources) {
    for (const { path } of documents) {
      const text = Deno.readTextFileSync(path);
      const to = relative(root, path);
      if (!C_LIKE.has(extname(path))) {
        write(join(folder, name, to), text);
        continue;
      }
      const lines = text.split("\n");
      const comments = lines.filter((line) => COMMENT.test(line));
      const code = lines.filter((line) => !COMMENT.test(line));
      write(join(folder, "prose", `${to}.txt`), unmarked(comments));
      write(join(folder, "code", to), code.join("\n").trim() + "\n");
    }
  }
  return sources.map(({ name }) => ({ path: join(folder, name), source: name }));
}

/** Comment lines without what marks them; one that held nothing else ends a paragraph. */
function unmarked(comments: readonly string[]): string {
  const text = comments.map((line) => line.replace(COMMENT, "").replace(/\s*\*\/$/, "")).join("\n");
  return text.replaceAll(/\n{3,}/g, "\n\n").trim() + "\n";
}

function write(path: string, text: string): void {
  if (text.trim() === "") return;
  Deno.mkdirSync(dirname(path), { recursive: true });
  Deno.writeTextFileSync(path, text);
}
