// A backend that times its operations: by the host's clock where an operation is done when its call returns, by a clock of
// the device's own elsewhere.

import type { Backend } from "../../lib/core/backend.ts";
import { byteLength, elementCount, rowWidth, type Tensor } from "../../lib/core/tensor.ts";

/** One operation on one set of shapes. */
export interface ProfileEntry {
  readonly operation: string;
  readonly shapes: string;
  /** The marks before and after each call, in order. */
  readonly calls: { readonly start: number; readonly end: number }[];
  /** Multiplications and additions of a call, for matrix products and causal attention; 0 for other operations. */
  readonly flops: number;
  /** Bytes a call reads and writes at least. */
  readonly bytes: number;
}

/** Takes marks, and knows the time between two of them once the work is done. */
export interface CallClock {
  mark(): number;
  elapsedMs(start: number, end: number): number;
}

const HOST: CallClock = {
  mark: () => performance.now(),
  elapsedMs: (start, end) => end - start,
};

/** Milliseconds of each call of an entry, in order; the clock is the one it was made with. */
export function callMsOf({ calls }: ProfileEntry, clock = HOST): number[] {
  return calls.map(({ start, end }) => clock.elapsedMs(start, end));
}

/** `backend`, adding every call to `entries` under the operation's name and shapes. Nothing is replayed. */
export function profiledBackend(
  backend: Backend,
  entries: Map<string, ProfileEntry>,
  clock = HOST,
): Backend {
  if (backend.info.isAsynchronous && clock === HOST) {
    throw new TypeError(`Cannot profile ${backend.info.name}: its calls return before the work`);
  }
  const methods = new Map<PropertyKey, unknown>();
  return new Proxy(backend, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (key === "replay") return (_: string, record: () => void) => record();
      if (typeof key !== "string" || typeof value !== "function" || !isTimed(key)) return value;
      if (!methods.has(key)) methods.set(key, timed(key, value, entries, clock));
      return methods.get(key);
    },
  });
}

function isTimed(key: string): boolean {
  const others = ["allocate", "allocations", "map", "read", "fence", "wait"];
  return !others.includes(key) && key !== "synchronize";
}

function timed(
  operation: string,
  // deno-lint-ignore ban-types
  call: Function,
  entries: Map<string, ProfileEntry>,
  clock: CallClock,
) {
  return (...args: unknown[]): void => {
    const start = clock.mark();
    Reflect.apply(call, undefined, args);
    const end = clock.mark();
    const tensors = args.filter(isTensor);
    const shapes = shapesOf(operation, tensors);
    const key = `${operation} ${shapes}`;
    let entry = entries.get(key);
    if (entry === undefined) {
      const flops = flopsOf(operation, tensors);
      entry = { operation, shapes, calls: [], flops, bytes: bytesOf(operation, tensors) };
      entries.set(key, entry);
    }
    entry.calls.push({ start, end });
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

/** Operands that are read and written, by their number among the tensors. */
const UPDATED: Readonly<Record<string, readonly number[]>> = {
  rmsnormBackward: [0],
  linearBackwardWeight: [0],
  ropeForward: [0],
  ropeBackward: [0],
  crossEntropyForwardBackward: [1],
  adamwUpdate: [1, 3, 4],
};

/** Of an embedding table only the rows of the tokens are touched. */
function bytesOf(operation: string, tensors: readonly Tensor[]): number {
  const touched = operation.startsWith("embedding")
    ? tensors.filter(({ shape }) => shape.length !== 2)
    : tensors;
  const again = (UPDATED[operation] ?? []).map((at) => tensors[at]);
  return [...touched, ...again].reduce((sum, tensor) => sum + byteLength(tensor), 0);
}
