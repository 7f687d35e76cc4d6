// The order of work on the GPU: one open compute pass into which dispatches are encoded, submitted in portions so that the
// GPU works while the host goes on encoding. Recorded lists of dispatches are encoded again without passing the ops.

import type { GpuBuffer } from "./memory.ts";
import type { PackedWeight, Upload } from "./texels.ts";

/** A dispatch ready to be encoded any number of times. */
export interface Dispatch {
  /** Copies of operands into textures, which the dispatch waits for. */
  readonly uploads: readonly Upload[];
  /** What it makes: a packed form, unless that is fresh, or a tensor, whose packed forms are then old. */
  readonly written: GpuBuffer | PackedWeight | null;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** Workgroups in x and y. */
  readonly x: number;
  readonly y: number;
}

// So many dispatches are submitted at once: enough to hide the cost of a submission, few enough to start early.
const PORTION = 256;

/** Encodes and submits; holds what was recorded for `replay`. */
export class CommandStream {
  readonly #device: GPUDevice;
  readonly #recorded = new Map<string, readonly Dispatch[]>();
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #pipeline: GPUComputePipeline | null = null;
  #count = 0;
  #recording: Dispatch[] | null = null;
  #generation = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Encodes one dispatch into the open pass. */
  dispatch(dispatch: Dispatch): void {
    this.#recording?.push(dispatch);
    this.#encode(dispatch);
  }

  /** Encodes a copy between buffers; the open pass ends before it. Offsets and size in bytes, multiples of 4. */
  copy(from: GPUBuffer, fromOffset: number, to: GPUBuffer, toOffset: number, size: number): void {
    this.refuseInReplay("copy");
    this.#endPass();
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from, fromOffset, to, toOffset, size);
  }

  /** Submits everything encoded so far. */
  flush(): void {
    this.#endPass();
    if (this.#encoder === null) return;
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#count = 0;
  }

  /** Encodes what `record` encodes; under a known key the list that was recorded then. */
  replay(key: string, record: () => void): void {
    const known = this.#recorded.get(key);
    if (known !== undefined) {
      for (const dispatch of known) this.dispatch(dispatch);
      return;
    }
    const outer = this.#recording, generation = this.#generation;
    const list: Dispatch[] = [];
    this.#recording = list;
    try {
      record();
    } finally {
      this.#recording = outer;
    }
    outer?.push(...list);
    // What was recorded before a `forget` on the way refers to buffers that are gone.
    if (generation === this.#generation) this.#recorded.set(key, list);
  }

  /** Drops recorded lists: their buffers are gone. */
  forget(): void {
    this.#generation++;
    this.#recorded.clear();
  }

  /** @throws {Error} inside `replay`, for work that cannot be repeated from a list. */
  refuseInReplay(verb: string): void {
    if (this.#recording !== null) throw new Error(`Cannot ${verb} inside replay`);
  }

  #encode({ uploads, written, pipeline, group, x, y }: Dispatch): void {
    if (written !== null) {
      if ("isFresh" in written) {
        if (written.isFresh) return;
        written.isFresh = true;
      } else written.markWritten();
    }
    if (uploads.length > 0) this.#upload(uploads);
    let pass = this.#pass;
    if (pass === null) {
      this.#encoder ??= this.#device.createCommandEncoder();
      pass = this.#pass = this.#encoder.beginComputePass();
    }
    if (this.#pipeline !== pipeline) pass.setPipeline(pipeline);
    this.#pipeline = pipeline;
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y);
    if (++this.#count >= PORTION) this.flush();
  }

  #upload(uploads: readonly Upload[]): void {
    this.#endPass();
    this.#encoder ??= this.#device.createCommandEncoder();
    for (const { source, destination, size } of uploads) {
      this.#encoder.copyBufferToTexture(source, destination, size);
    }
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
    this.#pipeline = null;
  }
}
