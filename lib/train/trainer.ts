// One optimizer step as enqueued work: micro-batches in, gradients accumulated, one update. Nothing is allocated and
// nothing is read while a step is enqueued; its loss is a promise. The loop over steps is pretrain.ts.

import type { Backend } from "../core/backend.ts";
import { carve, elementCount, reshape, rows, type Tensor } from "../core/tensor.ts";
import { type TrainingPlan, trainingPlan } from "../model/activations.ts";
import { backward } from "../model/backward.ts";
import { forward, type Model } from "../model/forward.ts";
import { headLoss, headLossBackward } from "../model/head.ts";
import { initializeWeights } from "../model/init.ts";
import {
  allocateParameters,
  type GradientStore,
  type ParameterSet,
  residentGradients,
  residentWeights,
} from "../model/weights.ts";
import type { RunConfig } from "./config.ts";
import { Optimizer } from "./optimizer.ts";
import { learningRate } from "./schedule.ts";

/** Training sequences by their global index. */
export interface TrainingSamples {
  /** Writes `count` sequences from `firstIndex` on: tokens and, one position later, targets; (count, T) each. */
  batch(firstIndex: number, count: number, inputs: Int32Array, targets: Int32Array): void;
}

/** What one step did. */
export interface StepResult {
  /** Mean cross-entropy per token before the update, in nats. */
  readonly loss: number;
  /** Norm of the whole gradient before clipping. */
  readonly gradNorm: number;
  /** True when loss or gradient was not finite and no parameter changed. */
  readonly isSkipped: boolean;
}

/** The part of a run's configuration that one step depends on. */
export type TrainerConfig = Pick<
  RunConfig,
  "model" | "microBatchSize" | "microSteps" | "schedule" | "adamw" | "gradClip" | "recompute"
>;

// The loss sum and the clip pair lie in one tensor so that a step is read in one piece, 256 bytes apart because views
// must be aligned so on some devices.
const CLIP_OFFSET = 64;
const SUMMARY_LENGTH = CLIP_OFFSET + 2;

/** Owns everything training keeps on the device: parameters, gradients, moments, activations. */
export class Trainer implements Disposable {
  /** Parameters in the precision in which they are trained and saved. */
  readonly params: ParameterSet;
  readonly optimizer: Optimizer;
  readonly model: Model;
  /** Sequences a step consumes. */
  readonly batchSize: number;
  readonly #backend: Backend;
  readonly #config: TrainerConfig;
  readonly #rounded: ParameterSet | null;
  readonly #grads: GradientStore;
  readonly #plan: TrainingPlan;
  readonly #losses: Tensor; //      (micro-steps, N) f32
  readonly #lossRows: readonly Tensor[];
  readonly #microLosses: Tensor; // (N) f32 of the micro-step in progress
  /** The first micro-step of a step, and all later ones, which are the same work on the same tensors. */
  readonly #microSteps: readonly { readonly key: string; readonly record: () => void }[];
  readonly #summary: Tensor;
  readonly #lossSum: Tensor; //     (1)
  readonly #inputs: Int32Array;
  readonly #targets: Int32Array;
  readonly #scale: number;
  readonly #resources: DisposableStack;

  /** Allocates for sequences of `sequenceLength` tokens; parameters are zero until initialized or loaded. */
  constructor(backend: Backend, config: TrainerConfig, sequenceLength: number) {
    const { model: architecture, microBatchSize, microSteps } = config;
    const { param, master, grad } = backend.precision;
    using resources = new DisposableStack();
    const use = <T extends Disposable>(resource: T) => resources.use(resource);
    const N = microBatchSize * sequenceLength;
    this.#backend = backend;
    this.#config = config;
    this.batchSize = microBatchSize * microSteps;
    const params = use(allocateParameters(backend, architecture, "parameters", param));
    this.#rounded = master === null ? null : params;
    this.params = master === null
      ? params
      : use(allocateParameters(backend, architecture, "master parameters", master));
    const grads = use(allocateParameters(backend, architecture, "gradients", grad));
    this.#grads = residentGradients(backend, grads);
    this.#plan = use(
      trainingPlan(backend, architecture, microBatchSize, sequenceLength, config.recompute),
    );
    const results = use(backend.allocate("losses", {
      losses: { dtype: "f32", shape: [microSteps, N] },
      microLosses: { dtype: "f32", shape: [N] },
      summary: { dtype: "f32", shape: [SUMMARY_LENGTH] },
    }));
    this.#losses = results.tensors.losses;
    this.#lossRows = Array.from(
      { length: microSteps },
      (_, i) => reshape(rows(this.#losses, i, i + 1), [N]),
    );
    this.#microLosses = results.tensors.microLosses;
    this.#summary = results.tensors.summary;
    this.#lossSum = carve(this.#summary, "loss sum", { dtype: "f32", shape: [1] }, 0);
    const clip = carve(this.#summary, "clip", { dtype: "f32", shape: [2] }, 4 * CLIP_OFFSET);
    this.optimizer = use(
      new Optimizer(
        backend,
        architecture,
        { params, master: master === null ? null : this.params, grads, clip },
        config.adamw,
        config.gradClip,
      ),
    );
    this.model = { config: architecture, backend, weights: residentWeights(params) };
    this.#inputs = new Int32Array(N);
    this.#targets = new Int32Array(N);
    this.#scale = 1 / (N * microSteps);
    const id = crypto.randomUUID();
    this.#microSteps = [0, 1].map((micro) => ({
      key: `micro-step ${micro} ${id}`,
      record: () => this.#recordMicroStep(micro),
    }));
    this.#resources = resources.move();
  }

  /** Writes the initial weights of `seed`. */
  initialize(seed: number): void {
    initializeWeights(this.#backend, this.#config.model, this.params, seed);
    this.roundParameters();
  }

  /** Makes the parameters that the model reads from the master copy, after that was written. */
  roundParameters(): void {
    const rounded = this.#rounded;
    if (rounded === null) return;
    rounded.flats.forEach((flat, i) => this.#backend.cast(flat, this.params.flats[i]));
  }

  /**
   * Enqueues step `step` (from 1) on the samples (step − 1) · batchSize …, and its result's way back. The result may
   * be awaited after the next step is enqueued.
   */
  step(step: number, samples: TrainingSamples): Promise<StepResult> {
    const { microBatchSize, microSteps } = this.#config;
    const first = (step - 1) * this.batchSize;
    for (let micro = 0; micro < microSteps; micro++) {
      samples.batch(first + micro * microBatchSize, microBatchSize, this.#inputs, this.#targets);
      this.#microStep(micro);
    }
    this.#backend.sum(this.#lossSum, this.#losses);
    this.optimizer.update(step, learningRate(this.#config.schedule, step), this.#lossSum);
    return this.#result();
  }

  /** Summed cross-entropy of one micro-batch with tokens and targets (B, T); targets below 0 do not count. */
  async evaluate(inputs: Int32Array, targets: Int32Array): Promise<number> {
    const plan = this.#plan;
    const losses = this.#microLosses;
    this.#backend.write(plan.tokens, inputs);
    this.#backend.write(plan.targets, targets);
    forward(this.model, plan.tokens, plan, null);
    headLoss(this.model, plan, losses);
    this.#backend.sum(this.#lossSum, losses);
    return new Float32Array(await this.#backend.read(this.#lossSum))[0];
  }

  /** Elements of a micro-batch, B · T. */
  get microTokens(): number {
    return elementCount(this.#plan.tokens.shape);
  }

  #microStep(micro: number): void {
    const plan = this.#plan;
    this.#backend.write(plan.tokens, this.#inputs);
    this.#backend.write(plan.targets, this.#targets);
    const { key, record } = this.#microSteps[Math.min(micro, 1)];
    this.#backend.replay(key, record);
    this.#backend.copy(this.#lossRows[micro], this.#microLosses);
  }

  #recordMicroStep(micro: number): void {
    const plan = this.#plan;
    // The head is done with the backward pass' own buffers before that starts, so its gradient may lie in one.
    const dHidden = plan.gradients.dNormed;
    this.#grads.begin(micro);
    forward(this.model, plan.tokens, plan, null);
    headLossBackward(this.model, plan, this.#microLosses, this.#scale, dHidden, this.#grads);
    backward(this.model, plan.tokens, plan, dHidden, this.#grads);
  }

  async #result(): Promise<StepResult> {
    const summary = new Float32Array(await this.#backend.read(this.#summary));
    return {
      loss: summary[0] * this.#scale,
      gradNorm: summary[CLIP_OFFSET + 1],
      isSkipped: summary[CLIP_OFFSET] === 0,
    };
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}
