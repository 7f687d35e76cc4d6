// One stream of generation by token ids, shared by the benches: no text, no sampling, the prompt is made up.

import type { Backend } from "../../lib/core/backend.ts";
import { UsageError } from "../../lib/core/errors.ts";
import { DEFAULT_SAMPLING } from "../../lib/generate/sampling.ts";
import { Engine } from "../../lib/generate/engine.ts";
import { loadModel, type WeightChoice } from "../../lib/generate/load_model.ts";

const WEIGHTS: readonly WeightChoice[] = ["stored", "f32", "bf16", "f16", "q8_0", "q4_0"];

/** A loaded model with one slot. */
export interface GenerationRun extends Disposable {
  /** Bytes of the weights as they are held. */
  readonly weightBytes: number;
  /** `length` ids that look like text's: scattered over the vocabulary, none special. */
  prompt(length: number): Int32Array;
  /** Passes a prompt through the model and draws one token, from an empty context. */
  prefill(prompt: Int32Array): Promise<number>;
  /** Draws one token more. */
  step(): Promise<number>;
}

/**
 * Loads the model of a Hugging Face folder.
 * @throws {UsageError} for weights other than those of `tinyllama generate --quantize`, or `stored`.
 */
export async function startGeneration(
  backend: Backend,
  folder: string,
  weights: string,
  contextLength: number,
): Promise<GenerationRun> {
  const choice = WEIGHTS.find((one) => one === weights);
  if (choice === undefined) {
    throw new UsageError(`Cannot hold weights as "${weights}": expected ${WEIGHTS.join(", ")}`);
  }
  using resources = new DisposableStack();
  const loaded = resources.use(await loadModel(backend, folder, { weights: choice }));
  const engine = resources.use(
    new Engine(loaded.model, {
      batchSize: 1,
      contextLength,
      sampling: { ...DEFAULT_SAMPLING, temperature: 0 },
    }),
  );
  const first = 300, span = engine.vocabSize - first;
  const drawn = async () => (await engine.read()).ids[0];
  const owned = resources.move();
  return {
    weightBytes: loaded.weightBytes,
    prompt: (length) => Int32Array.from({ length }, (_, i) => first + i * 7919 % span),
    prefill(prompt) {
      engine.start(0, prompt, 0, 0);
      return drawn();
    },
    step() {
      engine.step(1);
      return drawn();
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}
