// Tables of the GPU benches as data, and as Markdown.

/** A figure, a text, or nothing where nothing was measured. */
export type Cell = string | number | null;

/** One table of a report. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  /** Sentences below the table. */
  readonly notes: readonly string[];
}

/** The table with its title as a heading of the third level, and its notes. */
export function tableMarkdown({ title, columns, rows, notes }: Table): string {
  const texts = [columns, ...rows.map((row) => row.map(cellText))];
  const widths = columns.map((_, i) => Math.max(3, ...texts.map((row) => [...row[i]].length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((text, i) => text + " ".repeat(widths[i] - [...text].length)).join(" | ")} |`;
  const [head, ...body] = texts.map(line);
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [`### ${title}`, "", head, rule, ...body, ...notes.flatMap((note) => ["", note])].join(
    "\n",
  );
}

/** Four digits are more than a measurement has. */
function cellText(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell === "string" || Number.isInteger(cell)) return String(cell);
  return Math.abs(cell) >= 1000 ? cell.toFixed(0) : String(Number(cell.toPrecision(4)));
}
