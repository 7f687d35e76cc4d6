// AdamW over the flat buffers of a parameter set, with the gradient norm and its clipping on the device: a step is
// enqueued without reading anything back. TinyLlama §2.4; every parameter decays, norms and embeddings included.

import type { Backend } from "../core/backend.ts";
import type { AdamwOptions } from "../core/ops.ts";
import { carve, type Tensor } from "../core/tensor.ts";
import type { ModelConfig } from "../model/config.ts";
import { allocateParameters, type ParameterSet } from "../model/weights.ts";

/** What the optimizer works on. `master` is null where parameters are precise enough themselves. */
export interface OptimizerTensors {
  readonly params: ParameterSet;
  readonly master: ParameterSet | null;
  readonly grads: ParameterSet;
  /** (2) f32: receives the clip scale, 0 for a skipped step, and the gradient's norm before clipping. */
  readonly clip: Tensor;
}

// Partial sums lie this many bytes apart, the strictest alignment any device asks of a view.
const SLOT_BYTES = 256;

/** Owns the moments m and v. */
export class Optimizer implements Disposable {
  readonly m: ParameterSet;
  readonly v: ParameterSet;
  readonly #backend: Backend;
  readonly #tensors: OptimizerTensors;
  readonly #options: AdamwOptions;
  readonly #gradClip: number;
  readonly #squares: Tensor;
  readonly #squaresOf: readonly Tensor[];
  readonly #schedule: Tensor;
  readonly #scheduleValues = new Float32Array(2);
  readonly #resources: DisposableStack;

  /** Allocates zeroed moments. `gradClip` 0 never clips. */
  constructor(
    backend: Backend,
    config: ModelConfig,
    tensors: OptimizerTensors,
    options: AdamwOptions,
    gradClip: number,
  ) {
    using resources = new DisposableStack();
    this.#backend = backend;
    this.#tensors = tensors;
    this.#options = options;
    this.#gradClip = gradClip;
    this.m = resources.use(allocateParameters(backend, config, "optimizer m", "f32"));
    this.v = resources.use(allocateParameters(backend, config, "optimizer v", "f32"));
    const count = tensors.grads.flats.length;
    const arena = resources.use(backend.allocate("optimizer scalars", {
      squares: { dtype: "f32", shape: [count, SLOT_BYTES / 4] },
      schedule: { dtype: "f32", shape: [2] },
    }));
    this.#squares = arena.tensors.squares;
    this.#squaresOf = tensors.grads.flats.map((flat, i) =>
      carve(this.#squares, `${flat.name} squares`, { dtype: "f32", shape: [1] }, i * SLOT_BYTES)
    );
    this.#schedule = arena.tensors.schedule;
    this.#resources = resources.move();
  }

  /**
   * Enqueues the update of step `step` (from 1) with rate `lr`, or its omission when `loss` (1) f32 or a gradient is not
   * finite.
   */
  update(step: number, lr: number, loss: Tensor): void {
    const ops = this.#backend;
    const { params, master, grads, clip } = this.#tensors;
    this.#scheduleValues[0] = lr;
    this.#scheduleValues[1] = step;
    ops.write(this.#schedule, this.#scheduleValues);
    for (let i = 0; i < grads.flats.length; i++) {
      ops.sumOfSquares(this.#squaresOf[i], grads.flats[i]);
    }
    ops.clipScale(clip, this.#squares, loss, this.#gradClip);
    for (let i = 0; i < grads.flats.length; i++) {
      ops.adamwUpdate(
        params.flats[i],
        master === null ? null : master.flats[i],
        grads.flats[i],
        this.m.flats[i],
        this.v.flats[i],
        clip,
        this.#schedule,
        this.#options,
      );
    }
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}
