// Rows of a table by token id on CUDA; the table may have any weight dtype.

import ptx from "../../../kernels/dist/embedding.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/embedding_90.ptx" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import { carve, elementCount, rowCount, rowWidth } from "../../core/tensor.ts";
import { dtypeCode } from "../dtype_code.ts";
import { type CudaContext, i32 } from "./context.ts";
import { independentRows, packWidth, rowThreads, scalarOf } from "./geometry.ts";

/** As in kernels/cuda/embedding.cu: packs a thread copies at a time, tokens a block sorts, and its threads. */
const COPIED = 4;
const BINS = 256;
const ORDER_THREADS = 1024;
/** Columns of a thread in f32. */
const COLUMNS = 4;
/** Rows that one block adds up: more where partial sums would take more than PARTIAL_FLOATS. */
const CHUNK_ROWS = 16, MOST_CHUNK_ROWS = 64;
const PARTIAL_FLOATS = 1 << 22;
/** Parts of scratch memory begin at multiples of so many numbers. */
const ALIGNED = 64;

/** Loads kernels/cuda/embedding.cu; allocates nothing per call. */
export function embeddingOps(cuda: CudaContext) {
  const scalar = scalarOf(cuda), width = packWidth(scalar);
  const forward = `embedding_forward_${scalar}` as const;
  const backward = `embedding_backward_${scalar}` as const;
  const names = [forward, backward, "embedding_order", "embedding_add_partial"] as const;
  const kernels = cuda.load("embedding", ptx, names, { ptx: dependentPtx, entries: [forward] });
  return {
    embeddingForward(out, tokens, table) {
      const n = elementCount(tokens.shape), c = rowWidth(table);
      const { grid, block } = independentRows(n, c / width / COPIED);
      const args = [out, tokens, table, i32(dtypeCode(table.dtype)), i32(n), i32(c)];
      cuda.launch(kernels[forward], grid, block, 0, args);
    },
    embeddingBackward(dTable, dOut, tokens) {
      const n = elementCount(tokens.shape), c = rowWidth(dTable);
      const rowsFor = Math.ceil(n * c / PARTIAL_FLOATS);
      const chunkRows = Math.min(MOST_CHUNK_ROWS, Math.max(CHUNK_ROWS, rowsFor));
      const chunks = Math.ceil(n / chunkRows);
      const list = Math.ceil(n / ALIGNED) * ALIGNED;
      const scratch = cuda.scratch(2 * list + chunks * c);
      const cut = (name: string, dtype: "i32" | "f32", count: number, from: number) =>
        carve(scratch, name, { dtype, shape: [count] }, 4 * from);
      const order = cut("order", "i32", n, 0), sorted = cut("sorted", "i32", n, list);
      const partial = cut("partial sums", "f32", chunks * c, 2 * list);
      const sizes = [i32(n), i32(c), i32(chunkRows)],
        columns = [rowThreads(c / COLUMNS), 1, 1] as const;
      cuda.launch(
        kernels.embedding_order,
        [Math.ceil(rowCount(dTable) / BINS), 1, 1],
        [ORDER_THREADS, 1, 1],
        0,
        [order, sorted, tokens, i32(n)],
      );
      const args = [dTable, partial, dOut, order, sorted, ...sizes];
      cuda.launch(kernels[backward], [chunks, 1, 1], columns, 0, args);
      const rest = [dTable, partial, sorted, ...sizes];
      cuda.launch(kernels.embedding_add_partial, [chunks, 1, 1], columns, 0, rest);
    },
  } satisfies Partial<Ops>;
}
