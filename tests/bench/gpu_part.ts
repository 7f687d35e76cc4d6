// One part of the GPU benches in a process of its own, so that a card that failed in one part serves the next: prints its
// tables as one JSON line. Run by gpu_bench.ts.
//
//   deno run -A tests/bench/gpu_part.ts train|attention|decode|kernels|start|card [--tiny] [--torch PYTHON]

// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { UsageError } from "../../lib/core/errors.ts";
import { attentionTables } from "./gpu_attention.ts";
import { describeCard, openBenchDevice } from "./gpu_device.ts";
import { generationTables } from "./gpu_generation.ts";
import { kernelTables } from "./gpu_kernels.ts";
import { type BenchSizes, fullSizes, tinySizes } from "./gpu_sizes.ts";
import { startTables } from "./gpu_start.ts";
import { trainingTables } from "./gpu_training.ts";

async function measured(part: string, sizes: BenchSizes, torch: string | undefined) {
  switch (part) {
    case "train":
      return await trainingTables(sizes, torch);
    case "attention":
      return await attentionTables(sizes, torch);
    case "decode":
      return await generationTables(sizes, torch);
    case "kernels":
      return await kernelTables(sizes);
    case "start":
      return await startTables(sizes);
    case "card": {
      using device = await openBenchDevice();
      return describeCard(device);
    }
    default:
      throw new UsageError(`Cannot measure "${part}": there is no such part`);
  }
}

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: { tiny: { type: "boolean", default: false }, torch: { type: "string" } },
});
const sizes = values.tiny ? tinySizes() : fullSizes();
console.log(JSON.stringify(await measured(positionals[0] ?? "", sizes, values.torch)));
