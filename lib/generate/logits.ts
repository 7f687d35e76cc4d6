// Logits of given tokens: what the model thinks comes next, without drawing anything.

import { reshape, rows } from "../core/tensor.ts";
import { headRows, inferencePlan } from "../model/activations.ts";
import { forward, type Model } from "../model/forward.ts";
import { allocateLogits, headLogitsInF32, logitsOfRows } from "../model/head.ts";

/**
 * Logits for the token after each of `ids`, row by row (T, V), or after the last one only (1, V). Allocates for the call
 * and frees; the logits of all positions never lie on the device together.
 *
 * ```ts
 * const logits = await computeLogits(model.model, model.tokenizer.encode("2 + 2 =", { addBos: true }), "last");
 * ```
 * @throws {RangeError} for no ids, more than the context holds, or ids the model does not have.
 */
export async function computeLogits(
  model: Model,
  ids: Int32Array | readonly number[],
  positions: "all" | "last" = "all",
): Promise<Float32Array> {
  const { config, backend } = model;
  const T = ids.length, { vocabSize: V, hiddenSize: C } = config;
  if (T === 0 || T > config.maxSeqLen) {
    throw new RangeError(
      `Cannot compute the logits of ${T} tokens: expected 1 to ${config.maxSeqLen}`,
    );
  }
  const tokens = Int32Array.from(ids);
  const wrong = tokens.findIndex((id, at) => id !== ids[at] || id < 0 || id >= V);
  if (wrong >= 0) {
    throw new RangeError(
      `Cannot compute the logits of token ${ids[wrong]}: expected a whole number from 0 to ${
        V - 1
      }`,
    );
  }
  const first = positions === "all" ? 0 : T - 1;
  const chunk = headRows(config, T - first);
  using plan = inferencePlan(backend, config, T, T);
  using arena = backend.allocate("tokens", { tokens: { dtype: "i32", shape: [T] } });
  using head = allocateLogits(backend, chunk, V);
  const acts = plan.at(1, T);
  backend.write(arena.tensors.tokens, tokens);
  backend.write(acts.positions, Int32Array.from(tokens, (_, position) => position));
  forward(model, arena.tensors.tokens, acts, null);
  const hidden = reshape(acts.hidden, [T, C]);
  const out = new Float32Array((T - first) * V);
  for (let from = first; from < T; from += chunk) {
    const to = Math.min(from + chunk, T);
    const part = logitsOfRows(head, 0, to - from);
    headLogitsInF32(model, part, rows(hidden, from, to));
    out.set(new Float32Array(await backend.read(part.logits)), (from - first) * V);
  }
  return out;
}
