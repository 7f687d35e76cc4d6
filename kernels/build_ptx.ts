// Compiles kernels/cuda into PTX, one file a family, for the A100 and everything after it, or for Hopper alone where the
// file's name says so. Kernels of decoding that may begin before those they depend on have ended are compiled once more, for
// Hopper and everything after it. What stands in PTX is the same on every machine, and its version line is the lowest that
// the file's instructions allow, so that older drivers take it.

const ROOT = import.meta.dirname;
if (ROOT === undefined) throw new Error("Cannot build kernels: build_ptx.ts must be a local file");
const SOURCES = `${ROOT}/cuda`;
const DIST = `${ROOT}/dist`;

const FLAGS = ["-std=c++17", "-O3"] as const;
const HOPPER = "_hopper";
/** What the name of a file has that is compiled for 90, and the families that have one: those that a decoding step launches. */
const DEPENDENT = "_90";
const DEPENDENT_FAMILIES = [
  ...[
    "attention_plain",
    "embedding",
    "kv_cache",
    "linear",
    "rmsnorm",
    "rope",
    "sampling",
    "swiglu",
  ],
];
/** Of a kernel that waits by itself for those it depends on. */
const WAITS = "griddepcontrol.wait";
/** An entry point with activations in f32, which decoding on such cards does not take. */
const F32_ENTRY = /_f32(_\d+)?$/;
/** PTX versions from CUDA 11.0, which knows compute_80, to 13.0. */
const PTX_VERSIONS = [
  ...["7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "7.7", "7.8"],
  ...["8.0", "8.1", "8.2", "8.3", "8.4", "8.5", "8.6", "8.7", "8.8", "9.0"],
] as const;
const INCLUDE = /^#include "([a-z0-9_]+\.cuh)"$/gm;
const ENTRY = /^\.visible \.entry (?<name>\w+)\([^]*?^\}\n/gm;

/** Names of the PTX files without their ending, sorted: the families that have CUDA kernels, some of them twice. */
export function ptxFamilies(): string[] {
  return [...Deno.readDirSync(SOURCES)]
    .filter(({ name }) => name.endsWith(".cu"))
    .map(({ name }) => name.slice(0, -".cu".length))
    .concat(DEPENDENT_FAMILIES.map((family) => family + DEPENDENT))
    .sort();
}

/** What a family is compiled for: everything from 80 or from 90 on, or one architecture alone. */
export function architectureOf(family: string): "80" | "90" | "90a" {
  if (family.endsWith(DEPENDENT)) return "90";
  return family.endsWith(HOPPER) ? "90a" : "80";
}

function sourceOf(family: string): string {
  return `${family.endsWith(DEPENDENT) ? family.slice(0, -DEPENDENT.length) : family}.cu`;
}

function flagsOf(family: string): string[] {
  return ["-ptx", `-arch=compute_${architectureOf(family)}`, ...FLAGS];
}

/** A source and what it includes, directly or not, each once and in the order met. */
function withIncludes(name: string, seen: Map<string, string> = new Map()): Map<string, string> {
  if (seen.has(name)) return seen;
  const text = Deno.readTextFileSync(`${SOURCES}/${name}`);
  seen.set(name, text);
  for (const [, included] of text.matchAll(INCLUDE)) withIncludes(included, seen);
  return seen;
}

/** For each PTX file in dist, sha256 over the flags and the sources it is made of, as hexadecimal. */
export async function ptxHashes(): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const family of ptxFamilies()) {
    const parts = [flagsOf(family).join(" ")];
    for (const [name, text] of withIncludes(sourceOf(family))) parts.push(`\n${name}\n`, text);
    const bytes = new TextEncoder().encode(parts.join(""));
    const digest = await crypto.subtle.digest("SHA-256", bytes);
    hashes[`${family}.ptx`] = new Uint8Array(digest).toHex();
  }
  return hashes;
}

/**
 * Writes dist/FAMILY.ptx.
 * @returns its PTX version.
 * @throws {Error} with what the compiler said; {Deno.errors.NotFound} when nvcc or ptxas is not installed.
 */
export function buildPtx(family: string): string {
  const scratch = Deno.makeTempDirSync();
  try {
    const raw = `${scratch}/raw.ptx`, lowered = `${scratch}/lowered.ptx`;
    const source = sourceOf(family);
    run(`compile ${source}`, "nvcc", [...flagsOf(family), `${SOURCES}/${source}`, "-o", raw]);
    const all = bodyOf(Deno.readTextFileSync(raw));
    const body = family.endsWith(DEPENDENT) ? dependentsOf(all) : all;
    const header = `// kernels/cuda/${source}, compiled by \`deno task kernels\`.\n`;
    for (const version of PTX_VERSIONS) {
      const text = `${header}.version ${version}\n${body}`;
      Deno.writeTextFileSync(lowered, text);
      const args = [`-arch=sm_${architectureOf(family)}`, lowered, "-o", `${scratch}/cubin`];
      if (!new Deno.Command("ptxas", { args, stderr: "null" }).outputSync().success) continue;
      Deno.writeTextFileSync(`${DIST}/${family}.ptx`, text);
      return version;
    }
    throw new Error(`Cannot assemble ${family}.ptx: ptxas takes it as none of ${PTX_VERSIONS}`);
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}

/** PTX from `.target` on, without comments, which name the compiler's build. */
function bodyOf(ptx: string): string {
  const lines = ptx.slice(ptx.indexOf(".target")).split("\n");
  return lines.filter((line) => !line.trimStart().startsWith("//")).join("\n");
}

/** PTX without the entry points that are of no use for decoding. */
function dependentsOf(ptx: string): string {
  return ptx.replace(
    ENTRY,
    (entry: string, name: string) => entry.includes(WAITS) && !F32_ENTRY.test(name) ? entry : "",
  );
}

function run(what: string, command: string, args: readonly string[]): void {
  const { success, stderr } = new Deno.Command(command, { args: [...args], stderr: "piped" })
    .outputSync();
  if (!success) throw new Error(`Cannot ${what}:\n${new TextDecoder().decode(stderr)}`);
}
