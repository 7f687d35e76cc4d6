// Kernels that memory bounds ask for whole sectors, for little more than they need, and for much of it at once. Run as a
// program, it prints the table.

import assert from "node:assert/strict";
import type { Backend } from "../../lib/core/backend.ts";
import {
  type AccessCase,
  type AccessCases,
  blockCases,
  decodingCases,
  updateCases,
} from "./access_cases.ts";
import { accessesOf, complaints, type LaunchAccesses, sumAccesses } from "./access_report.ts";
import { cudaForTests } from "./device.ts";
import { bytesInFlight, hasAssembler } from "./in_flight.ts";

const GROUPS: Readonly<Record<string, (ops: Backend) => AccessCases>> = {
  blocks: blockCases,
  updates: updateCases,
  decoding: decodingCases,
};
/** What a multiprocessor must ask for at once to be served at full rate: 3 to 5 TB/s, 132 of them, 0.7 us a request. */
const BYTES_IN_FLIGHT = 40 << 10;

const cuda = await cudaForTests();
const missing = cuda.isSimulated ? cuda.missing : "a card counts no accesses";

async function launchesOf(backend: Backend, one: AccessCase): Promise<LaunchAccesses[]> {
  return await accessesOf(() => {
    one.run();
    return backend.synchronize();
  });
}

for (const [group, open] of Object.entries(GROUPS)) {
  const lacking = hasAssembler() ? "" : " (bytes in flight skipped: ptxas is not installed)";
  Deno.test({
    name: `accesses of ${group} on cuda${missing === null ? lacking : ` (skipped: ${missing})`}`,
    ignore: missing !== null,
    async fn(t) {
      using backend = cuda.open("bf16", 0);
      using opened = open(backend);
      await backend.synchronize();
      for (const one of opened.cases) {
        await t.step(one.name, async () => {
          const launches = await launchesOf(backend, one);
          assert.deepEqual(complaints(launches, one), []);
          if (!hasAssembler() || one.isSmall === true) return;
          const bytes = bytesInFlight(launches);
          assert.ok(
            bytes >= BYTES_IN_FLIGHT,
            `${bytes} bytes on their way, expected ${BYTES_IN_FLIGHT}`,
          );
        });
      }
    },
  });
}

/**
 * A line an operation: least bytes, touched and asked for as shares of them, needed share of sectors, words of one bank at
 * once, bytes on their way to a multiprocessor of Hopper.
 */
async function printTable(): Promise<void> {
  using backend = cuda.open("bf16", 0);
  const cells = [["operation", "bytes", "touched", "asked for", "needed", "ways", "in flight"]];
  for (const open of Object.values(GROUPS)) {
    using opened = open(backend);
    await backend.synchronize();
    for (const one of opened.cases) {
      const launches = await launchesOf(backend, one);
      const { needed, moved, distinct, worstWays } = sumAccesses(launches);
      cells.push([
        ...[one.name, String(one.bytes), (distinct / one.bytes).toFixed(3)],
        ...[(moved / one.bytes).toFixed(3), (needed / moved).toFixed(3), String(worstWays)],
        hasAssembler() ? String(bytesInFlight(launches)) : "",
      ]);
    }
  }
  const lines = cells.map(([name, ...rest]) =>
    name.padEnd(36) + rest.map((cell) => cell.padStart(11)).join("")
  );
  Deno.stdout.writeSync(new TextEncoder().encode(`${lines.join("\n")}\n`));
}

if (import.meta.main && missing === null) await printTable();
