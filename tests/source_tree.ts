// The project's own source files as the architecture test looks at them: their text, and what Deno's lint parser finds
// in the TypeScript ones.

/** Something found at a line (from 1) of a file. */
export interface Finding {
  readonly line: number;
  readonly text: string;
}

/** One file by its path from the root, with `/`. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** What a TypeScript file contains. */
export interface ParsedFile extends SourceFile {
  /** Specifiers of imports, re-exports, and modules named by `new URL("./…", import.meta.url)`. */
  readonly imports: readonly Finding[];
  /** Functions of any kind with their number of lines as text. */
  readonly functions: readonly Finding[];
  /** `any`, `as` other than `as const`, `!` and `<T>x`. */
  readonly casts: readonly Finding[];
  /** `console` */
  readonly consoles: readonly Finding[];
  /** Exports without a doc comment. */
  readonly undocumented: readonly Finding[];
  /** Statements at the top that do something rather than declare. */
  readonly effects: readonly Finding[];
}

const ROOT = new URL("../", import.meta.url);
const SKIPPED = new Set([".git", "node_modules", "runs", "data", "dist"]);

/** All files below `folder` ("" is the root) with one of these endings; nothing generated, nothing that is data. */
export function sourceFiles(folder: string, endings: readonly string[]): SourceFile[] {
  const files: SourceFile[] = [];
  for (const { name, isDirectory } of Deno.readDirSync(new URL(`./${folder}`, ROOT))) {
    if (isDirectory && !SKIPPED.has(name)) files.push(...sourceFiles(`${folder}${name}/`, endings));
    if (!endings.some((ending) => name.endsWith(ending))) continue;
    const path = folder + name;
    files.push({ path, text: Deno.readTextFileSync(new URL(path, ROOT)) });
  }
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

/** The lines of a text. A last line feed ends a line and begins none. */
export function lineCount(text: string): number {
  return text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
}

/** Parses a TypeScript file. Only inside `deno test`. */
export function parse({ path, text }: SourceFile): ParsedFile {
  const found = {
    imports: new Array<Finding>(),
    functions: new Array<Finding>(),
    casts: new Array<Finding>(),
    consoles: new Array<Finding>(),
    undocumented: new Array<Finding>(),
    effects: new Array<Finding>(),
  };
  const create = ({ sourceCode }: Deno.lint.RuleContext): Deno.lint.LintVisitor => {
    const note = (list: Finding[], node: Deno.lint.Node, what: string) =>
      list.push({ line: lineCount(text.slice(0, node.range[0]) + " "), text: what });
    const measure = (node: Deno.lint.Node) =>
      note(found.functions, node, String(lineCount(text.slice(...node.range))));
    const importing = (node: Deno.lint.Node, source: Deno.lint.Expression | null | undefined) => {
      if (source?.type === "Literal") note(found.imports, node, String(source.value));
    };
    return {
      ImportDeclaration: (node) => importing(node, node.source),
      ImportExpression: (node) => importing(node, node.source),
      ExportAllDeclaration: (node) => importing(node, node.source),
      NewExpression(node) {
        const [first] = node.arguments, { callee } = node;
        if (callee.type !== "Identifier" || callee.name !== "URL") return;
        if (first?.type === "Literal" && /^\.\.?\/.*\.ts$/.test(String(first.value))) {
          importing(node, first);
        }
      },
      ExportNamedDeclaration(node) {
        importing(node, node.source);
        const isDocumented = sourceCode.getCommentsBefore(node).some(({ value }) =>
          value[0] === "*"
        );
        if (node.source || isDocumented) return;
        note(found.undocumented, node, text.slice(node.range[0]).split("\n")[0]);
      },
      FunctionDeclaration: measure,
      FunctionExpression: measure,
      ArrowFunctionExpression: measure,
      TSAnyKeyword: (node) => note(found.casts, node, "any"),
      TSNonNullExpression: (node) => note(found.casts, node, text.slice(...node.range)),
      TSTypeAssertion: (node) => note(found.casts, node, text.slice(...node.range)),
      TSAsExpression(node) {
        const expression = text.slice(...node.range);
        if (!/\bas const$/.test(expression)) note(found.casts, node, expression);
      },
      "Program > ExpressionStatement": (node: Deno.lint.Node) =>
        note(found.effects, node, text.slice(node.range[0]).split("\n")[0]),
      "Identifier[name='console']": (node: Deno.lint.Node) => note(found.consoles, node, "console"),
    };
  };
  Deno.lint.runPlugin({ name: "source-tree", rules: { collect: { create } } }, path, text);
  return { path, text, ...found };
}
