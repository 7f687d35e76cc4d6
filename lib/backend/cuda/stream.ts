// Order on the device: a stream for computing, a stream for copies to the host, events between them, and graphs of what
// `replay` saw.

import { CUDART } from "../../../ffi/cudart.ts";
import type { CudaDevice } from "./device.ts";

/** The streams of one device and the graphs captured from them. */
export class CudaStream implements Disposable {
  /** cudaStream_t that all operations run on. */
  readonly compute: bigint;
  /** cudaStream_t for copies that computing does not wait for. */
  readonly copies: bigint;
  /** Whether the last kernel on `compute` lets a kernel after it begin early; CudaLauncher keeps it. */
  allowsOverlap = true;
  readonly #device: CudaDevice;
  readonly #graphs = new Map<string, bigint>();
  /** Keys of `replay` whose work ran once outside a graph. */
  readonly #seen = new Set<string>();
  readonly #place = new BigUint64Array(1);
  #isInReplay = false;
  #isOpen = true;

  constructor(device: CudaDevice) {
    this.#device = device;
    this.compute = this.#createStream();
    this.copies = this.#createStream();
  }

  /** A new event, without time measurement. */
  createEvent(): bigint {
    const { runtime, checkRuntime } = this.#device;
    const flags = CUDART.cudaEventBlockingSync | CUDART.cudaEventDisableTiming;
    checkRuntime(
      "cudaEventCreateWithFlags",
      runtime.cudaEventCreateWithFlags(this.#place, flags),
    );
    return this.#place[0];
  }

  /** `event` now means all work enqueued on `stream` so far. */
  record(event: bigint, stream: bigint): void {
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaEventRecord", runtime.cudaEventRecord(event, stream));
  }

  /** Work enqueued on `stream` later starts after `event`. */
  waitFor(event: bigint, stream: bigint): void {
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaStreamWaitEvent", runtime.cudaStreamWaitEvent(stream, event, 0));
  }

  /** Blocks the host until `event`. */
  block(event: bigint): void {
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaEventSynchronize", runtime.cudaEventSynchronize(event));
  }

  /** Resolves after `event`; other work of the host goes on meanwhile. */
  async reached(event: bigint): Promise<void> {
    const { runtime, checkRuntime } = this.#device;
    const status = runtime.cudaEventQuery(event);
    if (status !== CUDART.cudaErrorNotReady) return checkRuntime("cudaEventQuery", status);
    checkRuntime("cudaEventSynchronize", await runtime.cudaEventSynchronizeApart(event));
  }

  /** Resolves when all work enqueued so far is done. */
  async drained(): Promise<void> {
    const event = this.createEvent();
    this.record(event, this.compute);
    try {
      await this.reached(event);
    } finally {
      if (this.#isOpen) this.#device.runtime.cudaEventDestroy(event);
    }
  }

  /** Waits for all work before its memory is freed. A failure was said before or does not matter any more. */
  settle(): void {
    this.#device.runtime.cudaStreamSynchronize(this.compute);
    this.#device.runtime.cudaStreamSynchronize(this.copies);
  }

  /** Blocks the host until the stream for computing is empty. */
  blockAll(): void {
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaStreamSynchronize", runtime.cudaStreamSynchronize(this.compute));
  }

  /** With TINYLLAMA_CUDA_DEBUG=1 waits for the operation `name` just enqueued, so that its failure bears its name. */
  inspect(name: string): void {
    const { runtime, checkRuntime, isDebugging } = this.#device;
    if (isDebugging) checkRuntime(name, runtime.cudaStreamSynchronize(this.compute));
  }

  /**
   * Enqueues what `record` enqueues: as it is the first time, when libraries load kernels, which not every driver allows
   * while it captures; then as a graph.
   */
  replay(key: string, record: () => void): void {
    // Captured work cannot be waited for, and a graph within a graph is simply more of it.
    if (this.#device.isDebugging || this.#isInReplay) return record();
    let graph = this.#graphs.get(key);
    if (graph === undefined) {
      this.#isInReplay = true;
      try {
        if (!this.#seen.has(key)) {
          record();
          this.#seen.add(key);
          return;
        }
        graph = this.#capture(record);
      } finally {
        this.#isInReplay = false;
      }
      this.#graphs.set(key, graph);
    }
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaGraphLaunch", runtime.cudaGraphLaunch(graph, this.compute));
    this.allowsOverlap = false;
  }

  /** Drops captured graphs: their tensors are gone. */
  forget(): void {
    for (const graph of this.#graphs.values()) this.#device.runtime.cudaGraphExecDestroy(graph);
    this.#graphs.clear();
    this.#seen.clear();
  }

  /** @throws {Error} inside `replay`, for work that a graph cannot hold. */
  refuseInReplay(verb: string): void {
    if (this.#isInReplay) throw new Error(`Cannot ${verb} inside replay`);
  }

  [Symbol.dispose](): void {
    this.#isOpen = false;
    this.forget();
    this.#device.runtime.cudaStreamDestroy(this.copies);
    this.#device.runtime.cudaStreamDestroy(this.compute);
  }

  #createStream(): bigint {
    const { runtime, checkRuntime } = this.#device;
    const flags = CUDART.cudaStreamNonBlocking;
    checkRuntime(
      "cudaStreamCreateWithFlags",
      runtime.cudaStreamCreateWithFlags(this.#place, flags),
    );
    return this.#place[0];
  }

  #capture(record: () => void): bigint {
    const { runtime, checkRuntime } = this.#device;
    // Relaxed: scratch memory may still grow while operations are recorded.
    const mode = CUDART.cudaStreamCaptureModeRelaxed;
    checkRuntime("cudaStreamBeginCapture", runtime.cudaStreamBeginCapture(this.compute, mode));
    // A graph begins when all before it has ended.
    this.allowsOverlap = false;
    let isComplete = false;
    let status = 0;
    try {
      record();
      isComplete = true;
    } finally {
      status = runtime.cudaStreamEndCapture(this.compute, this.#place);
      if (!isComplete && status === 0) runtime.cudaGraphDestroy(this.#place[0]);
    }
    checkRuntime("cudaStreamEndCapture", status);
    const graph = this.#place[0];
    try {
      checkRuntime(
        "cudaGraphInstantiateWithFlags",
        runtime.cudaGraphInstantiateWithFlags(this.#place, graph, 0n),
      );
    } finally {
      runtime.cudaGraphDestroy(graph);
    }
    return this.#place[0];
  }
}
