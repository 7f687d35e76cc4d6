// The seam between the model and the devices: memory, the queue, and (in ops.ts) the operations.
//
// Contract. Every method except `read` and `synchronize` enqueues and returns. Work runs in the order enqueued. An
// operation checks the dtypes and shapes of its tensors and throws before it enqueues anything. Values that change
// between two replays (position, learning rate, step) live in tensors, never in scalars.

import type { DType } from "./dtype.ts";
import type { Ops } from "./ops.ts";
import type { Tensor, TensorSpec } from "./tensor.ts";

/** Tensors allocated together and freed together, by `using` or `[Symbol.dispose]()`. */
export interface Arena<K extends string> extends Disposable {
  readonly tensors: Readonly<Record<K, Tensor>>;
  readonly byteLength: number;
}

/** One line of the memory table: an arena that is alive, or memory that the backend holds for its own work. */
export interface Allocation {
  readonly label: string;
  readonly byteLength: number;
}

/** Device memory. Tensors are allocated at start, by name; nothing is allocated inside a step. */
export interface Memory {
  /** The sum of `allocations()`. */
  readonly allocatedBytes: number;
  /** What the backend holds for its own work from its opening on, where it says so, then the live arenas, oldest first. */
  allocations(): readonly Allocation[];
  /**
   * Allocates zeroed tensors. `label` names the arena in the memory table; a tensor's name is `label.key`.
   * @throws {DeviceError} when the memory is not there; the message says how much was asked for and is in use.
   */
  allocate<K extends string>(label: string, specs: Readonly<Record<K, TensorSpec>>): Arena<K>;
  /**
   * A file's bytes as one read-only `u8` tensor, without copying them; null when this backend cannot do that.
   * @throws {Deno.errors.NotFound} and its kin when the file cannot be opened.
   */
  map(label: string, path: string): Arena<"bytes"> | null;
  /** Copies host bytes over the whole of `dst`; the byte counts must agree. `source` may be reused on return. */
  write(dst: Tensor, source: ArrayBufferView): void;
  /** A copy of the tensor's bytes after all work enqueued so far. */
  read(source: Tensor): Promise<ArrayBuffer>;
  /** Copies bytes between tensors of the same byte length that do not overlap. */
  copy(dst: Tensor, source: Tensor): void;
  /** Sets every element of an f32 or i32 tensor, or of one of the compute dtype. */
  fill(dst: Tensor, value: number): void;
}

/** A point in the order of the queue. */
export interface Fence {
  readonly kind: "fence";
}

/** Order and repetition of enqueued work. */
export interface Queue {
  /** Marks "all work enqueued so far". */
  fence(): Fence;
  /** Work enqueued later starts after `fence`. Does not block the host. */
  wait(fence: Fence): void;
  /**
   * Enqueues what `record` enqueues. The same key must mean the same operations on the same tensors, so a backend may
   * run `record` the first times only and repeat what it saw.
   */
  replay(key: string, record: () => void): void;
  /** Resolves when all work enqueued so far is done. */
  synchronize(): Promise<void>;
}

/** The dtypes a backend wants; the model allocates by role and never names a dtype itself. */
export interface Precision {
  /** Trained parameters as `linearForward` and the other ops read them. */
  readonly param: DType;
  /** Activations and their gradients. */
  readonly compute: DType;
  /** Accumulated weight gradients. */
  readonly grad: DType;
  /** A master copy of the parameters for the optimizer; null when `param` is precise enough itself. */
  readonly master: DType | null;
  /** What matrix products round their operands to; accumulation is always f32. */
  readonly matmul: "f32" | "bf16" | "f16";
}

/** What the command line reports about the device in use. */
export interface DeviceInfo {
  /** Such as `cpu:native (avx512, 2 threads)`. */
  readonly name: string;
  /** True when enqueued work runs while the host goes on; then the next step is enqueued before a result is read. */
  readonly isAsynchronous: boolean;
  /** True when waiting for one result waits for all work enqueued: results are then awaited in turns, not one by one. */
  readonly waitsForAll: boolean;
  /** Peak matmul rate in FLOP/s for utilisation figures; null when unknown. */
  readonly peakFlops: number | null;
}

/** A device: its memory, its queue and the operations. */
export interface Backend extends Memory, Queue, Ops, Disposable {
  readonly kind: "cpu" | "webgpu" | "cuda";
  readonly info: DeviceInfo;
  readonly precision: Precision;
}
