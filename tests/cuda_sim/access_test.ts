// Kernels that memory bounds ask for whole sectors and for little more than they need. Run as a program, it prints the table.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import { type AccessCases, blockCases, decodingCases, updateCases } from "./access_cases.ts";
import { accessesOf, complaints, sumAccesses } from "./access_report.ts";
import { cudaForTests } from "./device.ts";

const GROUPS: Readonly<Record<string, (ops: Backend) => AccessCases>> = {
  blocks: blockCases,
  updates: updateCases,
  decoding: decodingCases,
};

const cuda = await cudaForTests();
const missing = cuda.isSimulated ? cuda.missing : "a card counts no accesses";

for (const [group, open] of Object.entries(GROUPS)) {
  Deno.test({
    name: `accesses of ${group} on cuda${missing === null ? "" : ` (skipped: ${missing})`}`,
    ignore: missing !== null,
    async fn(t) {
      using backend = cuda.open("bf16", 0);
      using opened = open(backend);
      await backend.synchronize();
      for (const one of opened.cases) {
        await t.step(one.name, async () => {
          const launches = await accessesOf(() => {
            one.run();
            return backend.synchronize();
          });
          assert.deepEqual(complaints(launches, one), []);
        });
      }
    },
  });
}

/** A line an operation: least bytes, touched and asked for as shares of them, needed share of sectors, bank conflicts. */
async function printTable(): Promise<void> {
  using backend = cuda.open("bf16", 0);
  const cells = [[
    "operation",
    "bytes",
    "touched",
    "asked for",
    "needed",
    "ways",
    "beyond the limits",
  ]];
  for (const open of Object.values(GROUPS)) {
    using opened = open(backend);
    await backend.synchronize();
    for (const one of opened.cases) {
      const launches = await accessesOf(() => {
        one.run();
        return backend.synchronize();
      });
      const { needed, moved, distinct, worstWays } = sumAccesses(launches);
      cells.push([
        ...[one.name, String(one.bytes), (distinct / one.bytes).toFixed(3)],
        ...[(moved / one.bytes).toFixed(3), (needed / moved).toFixed(3), String(worstWays)],
        complaints(launches, one).join("; "),
      ]);
    }
  }
  const lines = cells.map(([name, ...rest]) =>
    name.padEnd(36) + rest.map((cell) => cell.padStart(11)).join("")
  );
  Deno.stdout.writeSync(new TextEncoder().encode(`${lines.join("\n")}\n`));
}

if (import.meta.main && missing === null) await printTable();
