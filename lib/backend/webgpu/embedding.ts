// Rows of a table by token id on WebGPU; the table may have any weight dtype.

import elements from "../../../kernels/wgsl/elements.wgsl" with { type: "text" };
import embedding from "../../../kernels/wgsl/embedding.wgsl" with { type: "text" };
import { byteLengthOf } from "../../core/dtype.ts";
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";
import { weightTypeCode } from "./elements.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

const GROUP = 256;
/** Threads of a position: most tokens come once or twice. */
const BACKWARD_GROUP = 64;
/** Positions of one backward dispatch, each of which looks at all others; the kernel's number. */
const MAX_POSITIONS = 4096;

/** Compiles kernels/wgsl/embedding.wgsl; allocates nothing per call. */
export async function embeddingOps(gpu: GpuContext) {
  const kernels = await gpu.compile("embedding", [elements, embedding], {
    forward: { entryPoint: "forward", constants: { GROUP } },
    backward: { entryPoint: "backward", constants: { GROUP: BACKWARD_GROUP } },
  });
  return {
    embeddingForward(out, tokens, table) {
      const n = elementCount(tokens.shape), c = rowWidth(table), v = elementCount(table.shape) / c;
      const { dtype } = table;
      for (const [first, end] of rowRanges(gpu, n, 4 * c)) {
        const part = (tensor: typeof out) => rowsOf(tensor, n, first, end);
        const count = (end - first) * c;
        for (const [firstRow, endRow] of rowRanges(gpu, v, byteLengthOf(dtype, c))) {
          gpu.run(
            kernels.forward,
            [part(out), rowsOf(table, v, firstRow, endRow), part(tokens)],
            [count, c, firstRow, endRow, weightTypeCode(dtype)],
            [],
            Math.ceil(count / GROUP),
          );
        }
      }
    },
    embeddingBackward(dTable, dOut, tokens) {
      const n = elementCount(tokens.shape), c = rowWidth(dTable);
      const v = elementCount(dTable.shape) / c;
      for (const [firstRow, endRow] of rowRanges(gpu, v, 4 * c)) {
        for (const [first, end] of rowRanges(gpu, n, 4 * c, MAX_POSITIONS)) {
          gpu.run(
            kernels.backward,
            [
              rowsOf(dTable, v, firstRow, endRow),
              rowsOf(dOut, n, first, end),
              rowsOf(tokens, n, first, end),
            ],
            [end - first, c, firstRow, endRow],
            [],
            end - first,
          );
        }
      }
    },
  } satisfies Partial<Ops>;
}
