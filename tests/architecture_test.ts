// The house's plan, checked on the source text: who imports whom, the grid of families, sizes, names, comments, and what
// is not allowed anywhere. docs/design.md and CONTRIBUTING.md have the reasons.

import assert from "node:assert/strict";
import { dirname, join } from "node:path/posix";
import { expectedManifest } from "../kernels/build.ts";
import manifest from "../kernels/dist/manifest.json" with { type: "json" };
import { type Finding, lineCount, parse, type ParsedFile, sourceFiles } from "./source_tree.ts";

const FAMILIES = [
  ...["embedding", "rmsnorm", "linear", "rope", "attention", "swiglu"],
  ...["cross_entropy", "reduce", "adamw", "kv_cache", "sampling", "quantize"],
] as const;

/** Floors from the ground up. A folder imports from itself and from floors below it. */
const FLOORS: readonly (readonly string[])[] = [
  ["lib/core", "ffi", "kernels", "deno.json"],
  ["lib/io", "lib/tokenizer"],
  ["lib/model", "lib/backend"],
  ["lib/generate", "lib/data"],
  ["lib/train"],
  ["lib/cli"],
  ["main.ts", "mod.ts"],
];

const MAX_FILE_LINES = 400;
const MAX_FUNCTION_LINES = 70;
const DRAWERS =
  /(^|\/)(utils?|helpers?|common|misc|types|constants|index|manager|service|factory)\./;
const UNFINISHED = /\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b/;
const FOREIGN_PATH = /(^|[\s"'`(=])\/(home|root|tmp|Users)\//;

const code = sourceFiles("", [".ts"]).map(parse);
const shipped = code.filter(({ path }) => !path.startsWith("tests/"));
const texts = sourceFiles("", [".ts", ".c", ".h", ".wgsl", ".cu", ".py", ".md", ".yaml", ".json"]);

/** The violations of all files, each as `path:line text`. */
function violations(
  files: readonly ParsedFile[],
  find: (file: ParsedFile) => readonly Finding[],
): string[] {
  return files.flatMap((file) =>
    find(file).map(({ line, text }) => `${file.path}:${line} ${text}`)
  );
}

/** The folder of the plan that a path from the root belongs to, and its floor. */
function placeOf(path: string): { readonly folder: string; readonly floor: number } | null {
  const floor = FLOORS.findIndex((folders) => folders.some((folder) => isIn(path, folder)));
  const folder = FLOORS[floor]?.find((one) => isIn(path, one));
  return folder === undefined ? null : { folder, floor };
}

function isIn(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** Imports of a file that the plan does not allow. */
function misplacedImports(file: ParsedFile): Finding[] {
  const from = placeOf(file.path);
  if (from === null) return [{ line: 1, text: "stands in no folder of the plan" }];
  return file.imports.filter(({ text }) => {
    if (!text.startsWith(".")) return isIn(file.path, "lib/core") || isIn(file.path, "lib/model");
    const to = placeOf(join(dirname(file.path), text));
    if (to === null) return true;
    if (isIn(file.path, "lib/model")) return to.folder !== "lib/model" && to.folder !== "lib/core";
    return to.folder !== from.folder && to.floor >= from.floor;
  });
}

Deno.test("a folder imports only from floors below it", () => {
  assert.ok(shipped.length > 80, "the source tree was found");
  assert.deepEqual(violations(shipped, misplacedImports), []);
});

Deno.test("imports are found, and wrong ones are seen", () => {
  const file = (path: string, text: string) => misplacedImports(parse({ path, text })).length;
  assert.equal(file("lib/io/a.ts", `import { x } from "../core/a.ts";`), 0);
  assert.equal(file("lib/io/a.ts", `import type { X } from "../model/a.ts";`), 1);
  assert.equal(file("lib/io/a.ts", `export * from "../tokenizer/a.ts";`), 1);
  assert.equal(file("lib/io/a.ts", `const x = await import("../cli/a.ts");`), 1);
  assert.equal(file("lib/io/a.ts", `new Worker(new URL("../train/a.ts", import.meta.url));`), 1);
  assert.equal(file("lib/model/a.ts", `import { x } from "../io/a.ts";`), 1);
  assert.equal(file("lib/backend/a.ts", `import { x } from "../model/a.ts";`), 1);
  assert.equal(file("lib/generate/a.ts", `import { x } from "../data/a.ts";`), 1);
  assert.equal(file("lib/core/a.ts", `import { x } from "yaml";`), 1);
});

Deno.test("casts, prints, effects and missing comments are seen", () => {
  const text = [
    "export const a = b as string;",
    "/** Documented. */",
    "export const c = [d!, <e> f] as const;",
    "/** Documented. */",
    "export function g(h: any) {",
    "  console.log(h);",
    "}",
    "g(1);",
  ].join("\n");
  const { casts, consoles, undocumented, effects, functions } = parse({ path: "a.ts", text });
  assert.deepEqual(casts.map(({ line }) => line), [1, 3, 3, 5]);
  assert.deepEqual(consoles.map(({ line }) => line), [6]);
  assert.deepEqual(undocumented.map(({ line }) => line), [1]);
  assert.deepEqual(effects.map(({ line }) => line), [8]);
  assert.deepEqual(functions, [{ line: 5, text: "3" }]);
});

Deno.test("every family has a kernel, a binding and a reference of its name", () => {
  const columns = [
    ...["kernels/c/NAME.c", "lib/backend/cpu/NAME.ts"],
    ...["kernels/wgsl/NAME.wgsl", "lib/backend/webgpu/NAME.ts"],
    ...["tests/reference/NAME.ts", "tests/backend/conformance/NAME_test.ts"],
  ];
  const cells = FAMILIES.flatMap((name) => columns.map((cell) => cell.replace("NAME", name)));
  const paths = new Set(texts.map(({ path }) => path));
  assert.deepEqual(cells.filter((cell) => !paths.has(cell)), []);
});

Deno.test("the committed WASM modules and PTX were built from these sources", async () => {
  assert.deepEqual(manifest, await expectedManifest(), "run `deno task kernels`");
});

Deno.test(`no file has more than ${MAX_FILE_LINES} lines, no function more than ${MAX_FUNCTION_LINES}`, () => {
  const isCode = /\.(ts|c|h|wgsl|cu|py)$/;
  const long = texts.filter(({ path, text }) =>
    isCode.test(path) && lineCount(text) > MAX_FILE_LINES
  );
  assert.deepEqual(long.map(({ path, text }) => `${path}: ${lineCount(text)}`), []);
  const functions = violations(
    code,
    (file) => file.functions.filter(({ text }) => Number(text) > MAX_FUNCTION_LINES),
  );
  assert.deepEqual(functions, []);
});

Deno.test("no file is a drawer", () => {
  assert.deepEqual(texts.map(({ path }) => path).filter((path) => DRAWERS.test(path)), []);
});

Deno.test("no any, no casts, no assertions that something is there", () => {
  assert.deepEqual(violations(code, (file) => file.casts), []);
});

Deno.test("only the command line prints", () => {
  const library = shipped.filter(({ path }) => !isIn(path, "lib/cli"));
  assert.deepEqual(violations(library, (file) => file.consoles), []);
});

Deno.test("importing a module does nothing", () => {
  const library = shipped.filter(({ path }) => isIn(path, "lib") || isIn(path, "ffi"));
  // A worker's module is its program.
  const modules = library.filter(({ path }) => path !== "lib/backend/cpu/worker.ts");
  assert.deepEqual(violations(modules, (file) => file.effects), []);
});

Deno.test("every source file says what it is for", () => {
  const hasHeader = /^(\/\/ |#!|# |"""|\/\*)/;
  const silent = texts.filter(({ path, text }) =>
    /\.(ts|c|h|wgsl|cu|py)$/.test(path) && !hasHeader.test(text)
  );
  assert.deepEqual(silent.map(({ path }) => path), []);
});

Deno.test("every export is documented", () => {
  assert.deepEqual(violations(code, (file) => file.undocumented), []);
});

Deno.test("nothing is left for later, nothing names somebody's machine", () => {
  const lines = texts.flatMap(({ path, text }) =>
    text.split("\n").map((line, i) => ({ at: `${path}:${i + 1} ${line.trim()}`, line }))
  );
  const found = lines.filter(({ line }) => UNFINISHED.test(line) || FOREIGN_PATH.test(line));
  assert.deepEqual(found.map(({ at }) => at), []);
});
