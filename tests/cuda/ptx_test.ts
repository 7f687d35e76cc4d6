// Assembles the committed PTX for the cards it is meant for and prints what every entry takes of a multiprocessor. Needs
// ptxas, which comes with CUDA.

import assert from "node:assert/strict";
import { architectureOf, ptxFamilies } from "../../kernels/build_ptx.ts";
import { withEntries } from "../../lib/backend/cuda/ptx.ts";

/**
 * A100, the cards for graphics after it, which have the A100's instructions and are allotted registers in another way, and
 * Hopper, also with what it alone has.
 */
const CARDS = ["sm_80", "sm_86", "sm_90", "sm_90a"] as const;
/** Registers of a multiprocessor that the threads of one block share; a thread has a multiple of eight. */
const REGISTERS = 65536, REGISTER_UNIT = 8;
/** Threads of a block of a kernel that states no limit of its own. */
const MOST_THREADS = 1024;
const DIST = new URL("../../kernels/dist/", import.meta.url);
const ENTRY = /Compiling entry function '(?<name>\w+)'/;
const SPILLS = /(?<stores>\d+) bytes spill stores, (?<loads>\d+) bytes spill loads/;
const USED = /Used (?<registers>\d+) registers/;
const SHARED = /(?<bytes>\d+) bytes smem/;

interface EntryUse {
  readonly name: string;
  readonly registers: number;
  readonly sharedBytes: number;
  readonly spillBytes: number;
}

/** Families that are compiled for this card or those before it, or for this one alone. */
function familiesFor(card: string): string[] {
  const isFor = (family: string) => {
    const architecture = architectureOf(family);
    if (architecture === "90a" || card === "sm_90a") return card === `sm_${architecture}`;
    return Number(card.slice("sm_".length)) >= Number(architecture);
  };
  return ptxFamilies().filter(isFor);
}

/** What ptxas reports of every entry of a PTX file. */
function assemble(path: string, card: string): EntryUse[] {
  const args = ["-v", `-arch=${card}`, path, "-o", "/dev/null"];
  const { success, stderr } = new Deno.Command("ptxas", { args, stderr: "piped" }).outputSync();
  const report = new TextDecoder().decode(stderr);
  assert.ok(success, `${path} for ${card}:\n${report}`);
  // It says so when products that should overlap with other work do not.
  assert.doesNotMatch(report, /wgmma.*serialized/);
  return report.split(/(?=Compiling entry)/).slice(1).map((text) => {
    const number = (pattern: RegExp, group: string) => Number(pattern.exec(text)?.groups?.[group]);
    return {
      name: ENTRY.exec(text)?.groups?.name ?? "",
      registers: number(USED, "registers"),
      sharedBytes: SHARED.test(text) ? number(SHARED, "bytes") : 0,
      spillBytes: number(SPILLS, "stores") + number(SPILLS, "loads"),
    };
  });
}

function print(card: string, uses: readonly EntryUse[]): void {
  const rows = uses.map(({ name, registers, sharedBytes, spillBytes }) =>
    `${name.padEnd(44)}${String(registers).padStart(5)}${String(sharedBytes).padStart(8)}` +
    String(spillBytes).padStart(8)
  );
  const head = `${card.padEnd(44)} regs  shared  spills`;
  Deno.stdout.writeSync(new TextEncoder().encode(`${[head, ...rows].join("\n")}\n`));
}

function hasPtxas(): boolean {
  try {
    return new Deno.Command("ptxas", { args: ["--version"], stdout: "null" }).outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const missing = hasPtxas() ? "" : " (skipped: ptxas is not installed)";

for (const card of CARDS) {
  Deno.test({
    name: `every entry assembles for ${card} without spilling registers${missing}`,
    ignore: missing !== "",
    fn() {
      for (const family of familiesFor(card)) {
        const text = Deno.readTextFileSync(new URL(`${family}.ptx`, DIST));
        const limits = new Map(
          Array.from(
            text.matchAll(/\.entry (\w+)\([^)]*\)\n(?:\.maxntid (\d+))?/g),
            ([, name, threads]) => [name, Number(threads ?? MOST_THREADS)],
          ),
        );
        const uses = assemble(new URL(`${family}.ptx`, DIST).pathname, card);
        print(card, uses);
        assert.deepEqual(uses.map(({ name }) => name).sort(), [...limits.keys()].sort());
        for (const { name, registers, spillBytes } of uses) {
          assert.equal(spillBytes, 0, `${name} spills`);
          const threads = limits.get(name) ?? 0;
          const taken = Math.ceil(registers / REGISTER_UNIT) * REGISTER_UNIT * threads;
          assert.ok(taken <= REGISTERS, `${name}: ${registers} x ${threads} threads`);
        }
      }
    },
  });
}

Deno.test({
  name: `a module cut down to one of its entries is that entry alone${missing}`,
  ignore: missing !== "",
  fn() {
    const path = Deno.makeTempFileSync({ suffix: ".ptx" });
    try {
      for (const family of ptxFamilies()) {
        const text = Deno.readTextFileSync(new URL(`${family}.ptx`, DIST));
        const names = Array.from(text.matchAll(/\.entry (\w+)\(/g), ([, name]) => name);
        assert.equal(withEntries(text, names), text);
        for (const name of [names[0], names[names.length - 1]]) {
          Deno.writeTextFileSync(path, withEntries(text, [name]));
          const card = `sm_${architectureOf(family)}`;
          assert.deepEqual(assemble(path, card).map((use) => use.name), [name]);
        }
      }
    } finally {
      Deno.removeSync(path);
    }
  },
});

Deno.test("PTX asks for no newer driver than its instructions need", () => {
  for (const family of ptxFamilies()) {
    const text = Deno.readTextFileSync(new URL(`${family}.ptx`, DIST));
    const version = Number(/^\.version (\d+\.\d+)$/m.exec(text)?.[1]);
    const architecture = architectureOf(family);
    const newest = { "80": 7.1, "90": 7.8, "90a": 8 }[architecture];
    assert.ok(version <= newest, `${family}: PTX ${version}`);
    assert.match(text, new RegExp(`^\\.target sm_${architecture}$`, "m"));
  }
});

const TOUCHES = /\b(ld|st|atom|red|cp)\.[\w.:]*global/, WRITES = /\b(st|atom|red)\.[\w.:]*global/;

Deno.test("kernels of dependent launches say so first, and wait before they touch what is no weight", () => {
  for (const family of ptxFamilies().filter((one) => architectureOf(one) === "90")) {
    const text = Deno.readTextFileSync(new URL(`${family}.ptx`, DIST));
    const entries = text.split(/^(?=\.visible \.entry )/m).slice(1);
    assert.ok(entries.length > 0, family);
    for (const entry of entries) {
      const name = /\.entry (\w+)/.exec(entry)?.[1] ?? "";
      const [before, ...after] = entry.split("griddepcontrol.wait;");
      assert.ok(after.length > 0, `${name} does not wait`);
      const [first] = before.split("griddepcontrol.launch_dependents;");
      assert.notEqual(first, before, `${name} does not let the next kernel begin`);
      assert.doesNotMatch(first, TOUCHES, name);
      // Products read their weight, all else reads nothing.
      const early = name.startsWith("matvec") ? WRITES : TOUCHES;
      assert.doesNotMatch(before, early, name);
    }
  }
});
