// Tensors are data: a named, typed, contiguous view of device memory. They own nothing and compute nothing.

import { byteLengthOf, type DType } from "./dtype.ts";
import { DeviceError } from "./errors.ts";

/** What must be known to reserve memory for a tensor. `shape` is row-major, slowest dimension first. */
export interface TensorSpec {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** One allocation of a backend. Opaque above it; a backend narrows it to its own class. */
export interface DeviceBuffer {
  readonly byteLength: number;
}

/** A named, contiguous view of device memory. Valid while the arena it came from lives. */
export interface Tensor extends TensorSpec {
  /** Where it is used, such as `block.3.wqkv`; appears in errors and memory tables. */
  readonly name: string;
  readonly buffer: DeviceBuffer;
  readonly byteOffset: number;
  /**
   * Null for a plain tensor. Otherwise the matrix is the concatenation by rows of these plain tensors, which lie in
   * different places (q, k and v of a mapped file); `buffer` and `byteOffset` are then the first part's. Only the
   * weight of `linearForward` may be stacked.
   */
  readonly parts: readonly Tensor[] | null;
}

/** Kernels count the elements of one operand in 32 bits. */
export const MAX_ELEMENTS = 2 ** 31 - 1;

/** Number of elements in a shape. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const extent of shape) count *= extent;
  return count;
}

/**
 * Checks the spec of a tensor that is to be allocated as `name`. Bytes are only carried about and may be any number.
 * @throws {RangeError} when its shape is none.
 * @throws {DeviceError} when it has more elements than kernels count.
 */
export function checkSpec(name: string, { dtype, shape }: TensorSpec): void {
  if (!shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0)) {
    throw new RangeError(`Cannot allocate "${name}": [${shape}] is no shape`);
  }
  const count = elementCount(shape);
  if (count > MAX_ELEMENTS && dtype !== "u8") {
    throw new DeviceError(
      `Cannot allocate "${name}" of shape [${shape}]: ${count} elements, at most ${MAX_ELEMENTS}`,
    );
  }
}

/** Bytes a tensor of this spec takes. */
export function byteLength(spec: TensorSpec): number {
  return byteLengthOf(spec.dtype, elementCount(spec.shape));
}

/** Product of all dimensions but the last: how many rows an op sees. */
export function rowCount(spec: TensorSpec): number {
  return elementCount(spec.shape.slice(0, -1));
}

/** The last dimension: how wide a row is. */
export function rowWidth(spec: TensorSpec): number {
  return spec.shape[spec.shape.length - 1];
}

/**
 * The same bytes under another shape.
 * @throws {RangeError} when the element counts differ.
 */
export function reshape(tensor: Tensor, shape: readonly number[]): Tensor {
  if (elementCount(shape) !== elementCount(tensor.shape)) {
    throw new RangeError(
      `Cannot view "${tensor.name}" of shape [${tensor.shape}] as [${shape}]: element counts differ`,
    );
  }
  return { ...tensor, shape };
}

/**
 * Rows `start` (included) to `end` (excluded) of the leading dimension, without copying.
 * @throws {RangeError} when the range leaves the tensor.
 */
export function rows(tensor: Tensor, start: number, end: number): Tensor {
  if (start < 0 || end > tensor.shape[0] || start > end) {
    throw new RangeError(
      `Cannot take rows ${start} to ${end} of "${tensor.name}": it has ${tensor.shape[0]}`,
    );
  }
  const inner = tensor.shape.slice(1);
  const stride = byteLengthOf(tensor.dtype, elementCount(inner));
  return {
    ...tensor,
    shape: [end - start, ...inner],
    byteOffset: tensor.byteOffset + start * stride,
  };
}

/**
 * A tensor of its own name, dtype and shape inside `tensor`, `byteOffset` bytes after its start. This is how flat
 * buffers and mapped files are cut into weights.
 * @throws {RangeError} when it would reach past the end of `tensor`.
 */
export function carve(
  tensor: Tensor,
  name: string,
  spec: TensorSpec,
  byteOffset: number,
): Tensor {
  if (byteOffset < 0 || byteOffset + byteLength(spec) > byteLength(tensor)) {
    throw new RangeError(
      `Cannot place "${name}" of ${
        byteLength(spec)
      } bytes at byte ${byteOffset} of "${tensor.name}" ` +
        `of ${byteLength(tensor)} bytes`,
    );
  }
  return {
    name,
    dtype: spec.dtype,
    shape: spec.shape,
    buffer: tensor.buffer,
    byteOffset: tensor.byteOffset + byteOffset,
    parts: null,
  };
}

/**
 * Matrices of one dtype and width stacked by rows without copying; see {@linkcode Tensor.parts}.
 * @throws {RangeError} when widths or dtypes differ.
 */
export function stackRows(name: string, parts: readonly Tensor[]): Tensor {
  const first = parts[0];
  for (const part of parts) {
    if (part.dtype !== first.dtype || rowWidth(part) !== rowWidth(first)) {
      throw new RangeError(
        `Cannot stack "${part.name}" (${part.dtype} [${part.shape}]) under "${first.name}" ` +
          `(${first.dtype} [${first.shape}]): dtype and width must agree`,
      );
    }
  }
  const total = parts.reduce((sum, part) => sum + rowCount(part), 0);
  return { ...first, name, shape: [total, rowWidth(first)], parts };
}

/** Narrows a dictionary of tensors to the keys of the specs it was made from. */
export function hasTensors<K extends string>(
  tensors: object,
  specs: Readonly<Record<K, unknown>>,
): tensors is Record<K, Tensor> {
  return Object.keys(specs).every((key) => key in tensors);
}
