// What is known of one card: docs/gpu/CARD.json, whose sections the GPU tests and benches write, and CARD.md, which is made
// of it. A section is replaced as a whole, so each bears its own date and command.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { CardDescription } from "./gpu_device.ts";
import { type Table, tableMarkdown } from "./gpu_table.ts";

/** The sections of a report, in order. */
export const SECTIONS = ["tests", "train", "attention", "decode", "kernels", "start"] as const;
/** One of them. */
export type Section = typeof SECTIONS[number];

/** What one section holds. */
export interface SectionContent {
  /** UTC, to the minute. */
  readonly date: string;
  /** As it was typed. */
  readonly command: string;
  readonly tables: readonly Table[];
  /** What ended it early; null when nothing did. */
  readonly error: string | null;
}

interface Report {
  readonly card: CardDescription;
  readonly sections: Readonly<Partial<Record<Section, SectionContent>>>;
}

const TITLES: Readonly<Record<Section, string>> = {
  tests: "Tests",
  train: "Pretraining",
  attention: "Attention",
  decode: "Generation",
  kernels: "Kernels",
  start: "Start",
};

/** The date and the command of a section made now; `task` is the task's name. */
export function stamp(
  task: string,
  args: readonly string[],
): Pick<SectionContent, "date" | "command"> {
  const date = new Date().toISOString().slice(0, 16).replace("T", " ");
  return { date, command: ["deno task", task, ...args].join(" ") };
}

/** Writes one section into the report of a card in `folder`. @returns the path of the Markdown file. */
export function writeSection(
  folder: string,
  card: CardDescription,
  section: Section,
  content: SectionContent,
): string {
  mkdirSync(folder, { recursive: true });
  const stem = join(folder, card.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-"));
  const clean: SectionContent = JSON.parse(withoutFolders(JSON.stringify(content)));
  const sections = { ...readSections(`${stem}.json`), [section]: clean };
  const report: Report = { card, sections };
  writeFileSync(`${stem}.json`, `${JSON.stringify(report, null, 1)}\n`);
  writeFileSync(`${stem}.md`, markdownOf(report));
  return `${stem}.md`;
}

function readSections(path: string): Report["sections"] {
  try {
    return JSON.parse(readFileSync(path, "utf8")).sections;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return {};
    throw error;
  }
}

/** Paths of somebody's machine without their folders. */
function withoutFolders(text: string): string {
  const shorter = text.replaceAll(`${process.cwd()}/`, "");
  const folders = /(?<![\w.*:\/])(?:file:\/\/)?\/(?:[^\s\/"'`\\]+\/)+(?=[^\s\/"'`\\])/g;
  return shorter.replaceAll(folders, "");
}

function markdownOf({ card, sections }: Report): string {
  const gigabytes = (card.memoryBytes / 2 ** 30).toFixed(0);
  const parts = SECTIONS.flatMap((name) => {
    const section = sections[name];
    return section === undefined ? [] : [sectionMarkdown(TITLES[name], section)];
  });
  const text = [
    `# ${card.name}`,
    `Compute ${card.capability}, ${card.multiprocessors} multiprocessors at ${card.clockMhz} MHz, ` +
    `${gigabytes} GiB; driver for ${card.driver}; runtime ${card.runtime}.`,
    ...parts,
  ];
  return `${text.join("\n\n")}\n`;
}

function sectionMarkdown(title: string, { date, command, tables, error }: SectionContent): string {
  const failure = error === null ? [] : ["Ended early:", `\`\`\`\n${error}\n\`\`\``];
  const head = [`## ${title}`, `${date} UTC, \`${command}\``, ...failure];
  return [...head, ...tables.map(tableMarkdown)].join("\n\n");
}
