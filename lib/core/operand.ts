// Checks on one tensor of an operation, for checked_ops.ts. The success path allocates nothing.

import type { DType } from "./dtype.ts";
import { elementCount, MAX_ELEMENTS, type Tensor } from "./tensor.ts";

/** Throws that `tensor`, known in `op` as `role`, has another shape than `expected` (`*` is any extent). */
export function wrongShape(
  op: string,
  role: string,
  tensor: Tensor,
  expected: readonly (number | string)[],
): never {
  throw new RangeError(
    `${op}: ${role} "${tensor.name}" has shape [${tensor.shape.join(", ")}], expected [${
      expected.join(", ")
    }]`,
  );
}

/** Number of elements of a plain tensor of one dtype. @throws {TypeError | RangeError} when it is none. */
export function countOf(op: string, role: string, tensor: Tensor, dtype: DType): number {
  if (tensor.dtype !== dtype) wrongDType(op, role, tensor, dtype);
  return plainCount(op, role, tensor);
}

/** Number of elements of a plain f32, bf16 or f16 tensor. */
export function floatCount(op: string, role: string, tensor: Tensor): number {
  const { dtype } = tensor;
  if (dtype !== "f32" && dtype !== "bf16" && dtype !== "f16") {
    wrongDType(op, role, tensor, "f32, bf16 or f16");
  }
  return plainCount(op, role, tensor);
}

/** Number of elements of a plain tensor that can be a weight, quantized or not. */
export function weightCount(op: string, role: string, tensor: Tensor): number {
  checkWeight(op, role, tensor);
  return plainCount(op, role, tensor);
}

/** Number of elements of a weight that may be stacked. */
export function stackedCount(op: string, role: string, tensor: Tensor): number {
  checkWeight(op, role, tensor);
  return tensor.parts === null ? plainCount(op, role, tensor) : limited(op, role, tensor);
}

/** @throws {RangeError} when the tensor has not exactly `rank` dimensions. */
export function checkRank(op: string, role: string, tensor: Tensor, rank: number): void {
  if (tensor.shape.length !== rank) wrongShape(op, role, tensor, new Array(rank).fill("*"));
}

/** Throws that `tensor` has another dtype than `expected`. */
export function wrongDType(op: string, role: string, tensor: Tensor, expected: string): never {
  throw new TypeError(`${op}: ${role} "${tensor.name}" is ${tensor.dtype}, expected ${expected}`);
}

function checkWeight(op: string, role: string, tensor: Tensor): void {
  if (tensor.dtype === "i32" || tensor.dtype === "u8") {
    wrongDType(op, role, tensor, "f32, bf16, f16, q8_0 or q4_0");
  }
}

function plainCount(op: string, role: string, tensor: Tensor): number {
  if (tensor.parts !== null) {
    throw new TypeError(
      `${op}: ${role} "${tensor.name}" is stacked; only the weight of linearForward may be`,
    );
  }
  return limited(op, role, tensor);
}

function limited(op: string, role: string, tensor: Tensor): number {
  const count = elementCount(tensor.shape);
  if (count > MAX_ELEMENTS) {
    throw new RangeError(
      `${op}: ${role} "${tensor.name}" has ${count} elements, at most ${MAX_ELEMENTS} are possible`,
    );
  }
  return count;
}
