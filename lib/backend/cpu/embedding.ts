// Rows of a table by token id on the CPU; the table may have any weight dtype.

import type { Ops } from "../../core/ops.ts";
import { elementCount } from "../../core/tensor.ts";
import { dtypeCode } from "../dtype_code.ts";
import type { CpuContext } from "./context.ts";

/** Binds kernels/c/embedding.c; allocates nothing per call. */
export function embeddingOps(cpu: CpuContext) {
  const { kernels, context } = cpu;
  return {
    embeddingForward(out, tokens, table) {
      const n = elementCount(tokens.shape), c = table.shape[table.shape.length - 1];
      kernels.embedding_forward(
        context,
        cpu.output(out),
        cpu.input(tokens),
        cpu.input(table),
        dtypeCode(table.dtype),
        n,
        c,
      );
    },
    embeddingBackward(dTable, dOut, tokens) {
      const n = elementCount(tokens.shape), c = dTable.shape[dTable.shape.length - 1];
      const v = elementCount(dTable.shape) / c;
      kernels.embedding_backward(
        context,
        cpu.output(dTable),
        cpu.input(dOut),
        cpu.input(tokens),
        n,
        c,
        v,
      );
    },
  } satisfies Partial<Ops>;
}
