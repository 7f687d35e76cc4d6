// The learning rate of each step: linear warmup, then half a cosine (TinyLlama §2.4). Steps count from 1.

/** Constant over a run. */
export interface LearningRateSchedule {
  readonly lr: number;
  /** Reached exactly at the last step. */
  readonly minLr: number;
  /** The step at which `lr` is reached; 0 starts at the top. */
  readonly warmupSteps: number;
  readonly totalSteps: number;
}

/**
 * The rate of step `step`, 1 to totalSteps: lr · step / warmup up to the warmup's end, and from there
 * minLr + ½ (1 + cos(π · progress)) (lr − minLr). The step right after warmup is already below lr.
 */
export function learningRate(schedule: LearningRateSchedule, step: number): number {
  const { lr, minLr, warmupSteps, totalSteps } = schedule;
  if (step <= warmupSteps) return lr * step / warmupSteps;
  if (step >= totalSteps) return minLr;
  const progress = (step - warmupSteps) / (totalSteps - warmupSteps);
  return minLr + 0.5 * (1 + Math.cos(Math.PI * progress)) * (lr - minLr);
}
