// Time on a CUDA device: events on the stream that a backend computes on. Marks are taken without waiting; the time
// between two is known once the work between them is done.

import { type CudaDevice } from "../../lib/backend/cuda/device.ts";
import type { CudaStream } from "../../lib/backend/cuda/stream.ts";
import type { CallClock } from "./profiled_backend.ts";

/** What cuda_runtime_api.h has beyond the backend's own needs. */
const SYMBOLS = {
  cudaEventElapsedTime: {
    parameters: [
      "buffer", // float *ms
      "u64", // cudaEvent_t start
      "u64", // cudaEvent_t end
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Marks are numbers from 0, in the order taken. Dispose it before the backend. */
export class EventClock implements CallClock, Disposable {
  readonly #device: CudaDevice;
  readonly #stream: CudaStream;
  readonly #library: Deno.DynamicLibrary<typeof SYMBOLS>;
  readonly #events: bigint[] = [];
  readonly #place = new BigUint64Array(1);
  readonly #milliseconds = new Float32Array(1);
  #used = 0;

  /** Borrows the device and the stream. */
  constructor(device: CudaDevice, stream: CudaStream) {
    this.#device = device;
    this.#stream = stream;
    this.#library = Deno.dlopen(device.paths[1], SYMBOLS);
  }

  /** Enqueues a mark. */
  mark(): number {
    if (this.#used === this.#events.length) this.#events.push(this.#createEvent());
    this.#stream.record(this.#events[this.#used], this.#stream.compute);
    return this.#used++;
  }

  /** Milliseconds on the device between two marks. @throws {DeviceError} before the work between them is done. */
  elapsedMs(start: number, end: number): number {
    const { cudaEventElapsedTime } = this.#library.symbols;
    const status = cudaEventElapsedTime(
      this.#milliseconds,
      this.#events[start],
      this.#events[end],
    );
    this.#device.checkRuntime("cudaEventElapsedTime", status);
    return this.#milliseconds[0];
  }

  /** Forgets all marks, so that their events are used again. */
  reset(): void {
    this.#used = 0;
  }

  [Symbol.dispose](): void {
    for (const event of this.#events) this.#device.runtime.cudaEventDestroy(event);
    this.#library.close();
  }

  /** With time measurement, which the backend's own events go without. */
  #createEvent(): bigint {
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaEventCreateWithFlags", runtime.cudaEventCreateWithFlags(this.#place, 0));
    return this.#place[0];
  }
}
