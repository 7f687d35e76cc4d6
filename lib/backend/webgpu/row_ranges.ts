// Cutting tensors by rows so that each piece fits into one binding: 128 MiB on adapters that promise no more than the
// WebGPU default, and the embedding of TinyLlama has 250.

import { elementCount, reshape, rows, type Tensor } from "../../core/tensor.ts";
import type { GpuContext } from "./context.ts";

/**
 * Rows after which a range may end, from the best on: 64 rows of words end where bindings may start, 4 where texels do, 2
 * rows of quantized blocks end at whole words.
 */
const UNITS = [64, 4, 2];

/** Shaders count elements in 32 bits, and two elements of q4_0 are little more than a byte. */
const MAX_RANGE_BYTES = 2 ** 31;

/**
 * [first, end) pairs that cover `count` rows of at most `rowBytes` bytes each; one pair where everything fits. Ranges are
 * as long as fits, and then a multiple of the best unit. No range is longer than `maxRows`, a multiple of 64. A row that
 * does not fit is a range of its own, which the binding refuses.
 */
export function rowRanges(
  gpu: Pick<GpuContext, "maxBindingBytes">,
  count: number,
  rowBytes: number,
  maxRows = Infinity,
): readonly (readonly [number, number])[] {
  // A binding starts up to 256 bytes before its tensor.
  const bytes = Math.min(gpu.maxBindingBytes, MAX_RANGE_BYTES) - 256;
  const fitting = Math.min(maxRows, Math.floor(bytes / rowBytes));
  const unit = UNITS.find((rows) => rows <= fitting) ?? 1;
  const step = count <= fitting ? count : Math.max(1, fitting - fitting % unit);
  const ranges: (readonly [number, number])[] = [];
  for (let first = 0; first < count; first += step) {
    ranges.push([first, Math.min(first + step, count)]);
  }
  return ranges;
}

/** Rows [first, end) of a tensor seen as `count` rows of any width; the tensor itself when that is all of it. */
export function rowsOf(tensor: Tensor, count: number, first: number, end: number): Tensor {
  if (first === 0 && end === count) return tensor;
  return rows(reshape(tensor, [count, elementCount(tensor.shape) / count]), first, end);
}
