// What the commands that make data folders show: a table of sources and the files that were left out.

import type { Manifest } from "../data/manifest.ts";

const SHOWN_FILES = 3;

/** One line for each reason: how many files, and the first of them. */
export function skippedText(
  skipped: readonly { readonly path: string; readonly reason: string }[],
): string {
  const byReason = Map.groupBy(skipped, ({ reason }) => reason);
  const lines = [...byReason].map(([reason, files]) => {
    const shown = files.slice(0, SHOWN_FILES).map(({ path }) => path).join(", ");
    return `left out ${files.length}: ${reason}: ${shown}` +
      (files.length > SHOWN_FILES ? ", ..." : "");
  });
  return lines.map((line) => `${line}\n`).join("");
}

/** A table with a row for each part of each source. */
export function tableText({ sources }: Manifest): string {
  const rows = sources.flatMap(({ name, train, validation }) => [
    { name, part: "training", ...train },
    { name, part: "validation", ...validation },
  ]);
  const cells = [
    ["source", "part", "documents", "tokens", "bytes", "bytes/token", "files"],
    ...rows.map(({ name, part, documents, tokens, bytes, files }) => [
      name,
      part,
      inGroups(documents),
      inGroups(tokens),
      bytes === null ? "unknown" : inGroups(bytes),
      bytes === null || tokens === 0 ? "" : (bytes / tokens).toFixed(2),
      inGroups(files.length),
    ]),
  ];
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const isText = (column: number) => column < 2;
  const lines = cells.map((row) =>
    row.map((cell, i) => isText(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ")
  );
  return lines.join("\n");
}

/** A whole number with separators between thousands. */
export function inGroups(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
