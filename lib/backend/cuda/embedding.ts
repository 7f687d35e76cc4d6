// Rows of a table by token id on CUDA; the table may have any weight dtype.

import ptx from "../../../kernels/dist/embedding.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { elementCount, rowWidth } from "../../core/tensor.ts";
import { dtypeCode } from "../dtype_code.ts";
import { type CudaContext, i32 } from "./context.ts";
import { packWidth, rowThreads, scalarOf } from "./geometry.ts";

/** Elements of a table that a thread reads at a time. */
const DECODED = 8;
/** Rows whose links one block finds. */
const LINK_THREADS = 128;

/** Loads kernels/cuda/embedding.cu; allocates nothing per call. */
export function embeddingOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda);
  const forward = `embedding_forward_${scalar}` as const;
  const backward = `embedding_backward_${scalar}` as const;
  const kernels = cuda.load("embedding", ptx, [forward, backward, "embedding_links"]);
  return {
    embeddingForward(out, tokens, table) {
      const n = elementCount(tokens.shape), c = rowWidth(table);
      cuda.launch(
        kernels[forward],
        [n, 1, 1],
        [rowThreads(c / DECODED), 1, 1],
        0,
        [out, tokens, table, i32(dtypeCode(table.dtype)), i32(c)],
      );
    },
    embeddingBackward(dTable, dOut, tokens) {
      const n = elementCount(tokens.shape), c = rowWidth(dTable);
      const links = cuda.scratch(2 * n), blocks = Math.ceil(n / LINK_THREADS);
      const args = [links, tokens, i32(n)];
      cuda.launch(kernels.embedding_links, [blocks, 1, 1], [LINK_THREADS, 1, 1], 0, args);
      cuda.launch(
        kernels[backward],
        [n, 1, 1],
        [rowThreads(c / packWidth(scalar)), 1, 1],
        0,
        [dTable, dOut, tokens, links, i32(n), i32(c)],
      );
    },
  } satisfies Partial<Ops>;
}
