// Every kernel of a CUDA card by itself: those that memory bounds beside a copy of the same size, products beside a large
// product, in one run.

import { cacheCases, matvecCases } from "./gpu_decode_cases.ts";
import { type GpuCase, type GpuCases, productCases, trainingCases } from "./gpu_cases.ts";
import { type BenchBackend, openBenchBackend } from "./gpu_device.ts";
import { type Ceilings, Measure } from "./gpu_measure.ts";
import type { BenchSizes } from "./gpu_sizes.ts";
import type { Cell, Table } from "./gpu_table.ts";

const GROUPS = [
  { title: "Kernels of training that memory bounds", open: trainingCases, goal: "85" },
  { title: "Products of training", open: productCases, goal: null },
  { title: "Kernels of decoding: products of one row", open: matvecCases, goal: "85" },
  { title: "Kernels of decoding: cache and drawing", open: cacheCases, goal: null },
] as const;

/** Tables of the part `kernels`. */
export async function kernelTables(sizes: BenchSizes): Promise<Table[]> {
  using bench = await openBenchBackend();
  using measure = new Measure(bench, sizes);
  const ceilings = await measure.ceilings();
  const tables: Table[] = [];
  for (const { title, open, goal } of GROUPS) {
    const rows = await measureGroup(bench, measure, ceilings, open(bench.backend, sizes));
    tables.push({
      title,
      columns: ["kernel", "us", "GB/s", "TFLOP/s", "ceiling", "of ceiling, %", "goal, %"],
      rows: rows.map((row) => [...row, goal]),
      notes: [
        "The ceiling is a copy of the same size between the device's own memory (read and written " +
        `bytes in GB/s), for products one of ${sizes.productExtent}³ (TFLOP/s), in the same run.`,
      ],
    });
  }
  return tables;
}

async function measureGroup(
  { backend }: BenchBackend,
  measure: Measure,
  { productTflops }: Ceilings,
  opened: GpuCases,
): Promise<Cell[][]> {
  using group = opened;
  const rows: Cell[][] = [];
  for (const one of group.cases) {
    const ms = await measure.deviceMs(one.turns, one.run);
    rows.push(await rowOf(one, ms, measure, productTflops));
  }
  await backend.synchronize();
  return rows;
}

async function rowOf(
  { name, bytes, flops }: GpuCase,
  ms: number,
  measure: Measure,
  productTflops: number,
): Promise<Cell[]> {
  if (bytes === null) {
    const tflops = Number(flops) / ms / 1e9;
    return [name, 1000 * ms, null, tflops, productTflops, 100 * tflops / productTflops];
  }
  const gbs = bytes / ms / 1e6, copyGbs = bytes / await measure.copyMs(bytes) / 1e6;
  return [name, 1000 * ms, gbs, null, copyGbs, 100 * gbs / copyGbs];
}
