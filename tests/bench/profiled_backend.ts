// A backend that times its operations. Only for devices on which an operation is done when its call returns.

import type { Backend } from "../../lib/core/backend.ts";
import { byteLength, elementCount, rowWidth, type Tensor } from "../../lib/core/tensor.ts";

/** One operation on one set of shapes. */
export interface ProfileEntry {
  readonly operation: string;
  readonly shapes: string;
  /** Milliseconds of each call, in order. */
  readonly callMs: number[];
  /** Multiplications and additions of a call, for matrix products and causal attention; 0 for other operations. */
  readonly flops: number;
  /** Bytes a call touches at least: its operands, each counted once. */
  readonly bytes: number;
}

/** `backend`, adding every call to `entries` under the operation's name and shapes. */
export function profiledBackend(backend: Backend, entries: Map<string, ProfileEntry>): Backend {
  if (backend.info.isAsynchronous) {
    throw new TypeError(`Cannot profile ${backend.info.name}: its calls return before the work`);
  }
  const methods = new Map<PropertyKey, unknown>();
  return new Proxy(backend, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof key !== "string" || typeof value !== "function" || !isTimed(key)) return value;
      if (!methods.has(key)) methods.set(key, timed(key, value, entries));
      return methods.get(key);
    },
  });
}

function isTimed(key: string): boolean {
  const others = ["allocate", "allocations", "map", "read", "fence", "wait", "replay"];
  return !others.includes(key) && key !== "synchronize";
}

// deno-lint-ignore ban-types
function timed(operation: string, call: Function, entries: Map<string, ProfileEntry>) {
  return (...args: unknown[]): void => {
    const start = performance.now();
    Reflect.apply(call, undefined, args);
    const elapsedMs = performance.now() - start;
    const tensors = args.filter(isTensor);
    const shapes = shapesOf(operation, tensors);
    const key = `${operation} ${shapes}`;
    let entry = entries.get(key);
    if (entry === undefined) {
      const flops = flopsOf(operation, tensors);
      entry = { operation, shapes, callMs: [], flops, bytes: bytesOf(operation, tensors) };
      entries.set(key, entry);
    }
    entry.callMs.push(elapsedMs);
  };
}

function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "byteOffset" in value && "shape" in value &&
    "parts" in value;
}

/** The rows, then the matrix with its dtype; for other operations the shape of the largest operand. */
function shapesOf(operation: string, tensors: readonly Tensor[]): string {
  const [first, second, third] = tensors;
  if (!operation.startsWith("linear")) {
    const largest = tensors.reduce((most, tensor) =>
      elementCount(tensor.shape) > elementCount(most.shape) ? tensor : most
    );
    return `(${largest.shape.join(", ")})`;
  }
  const matrix = operation === "linearBackwardWeight" ? first : third;
  const product = operation === "linearForward" ? first : second;
  const width = rowWidth(matrix), height = elementCount(matrix.shape) / width;
  return `${elementCount(product.shape) / height} x (${height}, ${width}) ${matrix.dtype}`;
}

function flopsOf(operation: string, tensors: readonly Tensor[]): number {
  const [first, second, third] = tensors;
  switch (operation) {
    case "linearForward":
      return 2 * elementCount(first.shape) * rowWidth(third);
    case "linearBackwardInput":
      return 2 * elementCount(second.shape) * rowWidth(third);
    case "linearBackwardWeight":
      return 2 * elementCount(second.shape) * rowWidth(first);
    case "attentionForward":
      return 2 * elementCount(first.shape) * first.shape[1];
    case "attentionBackward":
      return 5 * elementCount(second.shape) * second.shape[1];
    default:
      return 0;
  }
}

/** Of an embedding table only the rows of the tokens are touched. */
function bytesOf(operation: string, tensors: readonly Tensor[]): number {
  const touched = operation.startsWith("embedding")
    ? tensors.filter(({ shape }) => shape.length !== 2)
    : tensors;
  return touched.reduce((sum, tensor) => sum + byteLength(tensor), 0);
}
