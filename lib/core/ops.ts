// The operations the model is written in, with their formulas. Outputs come first, then inputs, then scalars; sizes
// come from shapes. Shape letters: B batch, T positions, N = B·T rows, C hidden, F intermediate, H query heads, K
// key/value heads, D head width, V vocabulary, S cache length, O and I a linear layer's outputs and inputs.
//
// Activations have the backend's compute dtype, accumulation is f32 everywhere; statistics, tables and losses are f32,
// ids and positions i32. Row-wise operations (embedding, rmsnorm, linear, swiglu, cross entropy) read a tensor of any
// shape as rows of the width their weight or other operand gives: (B, T, H, D) is also (N, C). `+=` marks outputs that
// accumulate; every other output is overwritten.

import type { Tensor } from "./tensor.ts";

/** How AdamW treats one parameter tensor; constant over a run (TinyLlama §2.4). */
export interface AdamwOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** How the next token is drawn; constant over one generation. Temperature 0 means the most likely token. */
export interface SamplingOptions {
  readonly temperature: number;
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of most likely tokens whose probability reaches this; 1 keeps all. */
  readonly topP: number;
  /** Drop tokens less likely than this share of the most likely one; 0 keeps all. */
  readonly minP: number;
  /** Divide positive and multiply negative logits of seen tokens by this; 1 is off (CTRL, Keskar et al. 2019). */
  readonly repetitionPenalty: number;
}

/** The operations of one backend. See the file header for letters and dtypes. */
export interface Ops {
  /** out[n] = table[tokens[n]]. out (N, C), tokens (N), table (V, C) of any weight dtype. Gathers rows of anything. */
  embeddingForward(out: Tensor, tokens: Tensor, table: Tensor): void;
  /** dTable[tokens[n]] += dOut[n], in ascending n. dTable (V, C) of the grad dtype, dOut (N, C), tokens (N). */
  embeddingBackward(dTable: Tensor, dOut: Tensor, tokens: Tensor): void;

  /**
   * rstd = 1 / sqrt(mean(x²) + eps), out = x · rstd · weight. out, x (N, C), weight (C), rstd (N) f32 or null when there is
   * no backward pass. (Zhang and Sennrich 2019.)
   */
  rmsnormForward(out: Tensor, rstd: Tensor | null, x: Tensor, weight: Tensor, eps: number): void;
  /**
   * With g = dOut · weight: dX += rstd · (g − x · rstd² · mean(g · x)); dWeight += Σₙ dOut · x · rstd.
   * dX, dOut, x (N, C), dWeight, weight (C), rstd (N).
   */
  rmsnormBackward(
    dX: Tensor,
    dWeight: Tensor,
    dOut: Tensor,
    x: Tensor,
    weight: Tensor,
    rstd: Tensor,
  ): void;

  /**
   * out = x · weightᵀ + addend. out, addend (N, O), x (N, I), weight (O, I) of any weight dtype, possibly stacked. addend
   * null means zero; it may be `out` itself. The addend is the residual stream: no separate addition exists.
   */
  linearForward(out: Tensor, x: Tensor, weight: Tensor, addend: Tensor | null): void;
  /** dX = dOut · weight. dX (N, I), dOut (N, O), weight (O, I) of the param dtype. */
  linearBackwardInput(dX: Tensor, dOut: Tensor, weight: Tensor): void;
  /** dWeight += dOutᵀ · x. dWeight (O, I) of the grad dtype, dOut (N, O), x (N, I). */
  linearBackwardWeight(dWeight: Tensor, dOut: Tensor, x: Tensor): void;

  /**
   * Rotates the pairs (j, j + D/2) of every query and key head in place by the angle positions[n] · frequency j:
   * a' = a·cos − b·sin, b' = b·cos + a·sin. qkv (B, T, H+2K, D) with heads in the order q, k, v; table (S, D) f32 with row
   * p = [cos(p·θ_0) … cos(p·θ_{D/2−1}), sin(p·θ_0) …]; positions (B, T). numHeads = H. (Su et al. 2021, half-split layout.)
   */
  ropeForward(
    qkv: Tensor,
    table: Tensor,
    positions: Tensor,
    numHeads: number,
    numKvHeads: number,
  ): void;
  /** The inverse rotation, in place: the gradient of ropeForward. dQkv (B, T, H+2K, D). */
  ropeBackward(
    dQkv: Tensor,
    table: Tensor,
    positions: Tensor,
    numHeads: number,
    numKvHeads: number,
  ): void;

  /**
   * Causal grouped-query attention within each sequence, scale 1/√D, online softmax: never a T x T matrix in memory. Query
   * head h reads key/value head ⌊h · K / H⌋. out (B, T, H, D), qkv (B, T, H+2K, D); lse (B, H, T) f32 = log Σ exp of the
   * scaled scores, or null. (Dao 2023.)
   */
  attentionForward(out: Tensor, lse: Tensor | null, qkv: Tensor): void;
  /** dQkv (B, T, H+2K, D) from dOut, out (B, T, H, D), qkv and lse; overwrites all of dQkv. */
  attentionBackward(dQkv: Tensor, dOut: Tensor, qkv: Tensor, out: Tensor, lse: Tensor): void;

  /** keys[b, k, positions[b, t]] = key head k of qkv[b, t], values alike. keys, values (B, K, S, D), qkv (B, T, H+2K, D). */
  kvCacheAppend(keys: Tensor, values: Tensor, qkv: Tensor, positions: Tensor): void;
  /** Each query of qkv[b, t] attends to cache slots 0 … positions[b, t] of sequence b. out (B, T, H, D). */
  attentionCached(
    out: Tensor,
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
  ): void;

  /** out = silu(gate) · up. out (N, F), gateUp (N, 2F) = [gate, up]. (Shazeer 2020.) */
  swigluForward(out: Tensor, gateUp: Tensor): void;
  /** dGateUp (N, 2F) from dOut (N, F) and gateUp; dGateUp may be gateUp itself. */
  swigluBackward(dGateUp: Tensor, dOut: Tensor, gateUp: Tensor): void;

  /** losses[n] = logsumexp(logits[n]) − logits[n, targets[n]]; 0 where targets[n] < 0. losses (N) f32, logits (N, V). */
  crossEntropyForward(losses: Tensor, logits: Tensor, targets: Tensor): void;
  /** As above, and logits becomes its gradient (softmax − one-hot) · scale in place; rows with targets[n] < 0 become 0. */
  crossEntropyForwardBackward(
    losses: Tensor,
    logits: Tensor,
    targets: Tensor,
    scale: number,
  ): void;

  /** out[0] = Σ x. out (1), x any shape, both f32. The order of addition is fixed. */
  sum(out: Tensor, x: Tensor): void;
  /** out[0] = Σ x². out (1) f32, x of the grad dtype. The order of addition is fixed. */
  sumOfSquares(out: Tensor, x: Tensor): void;
  /**
   * With norm = sqrt(Σ squares): out = [min(1, maxNorm / (norm + 1e-6)), norm], or [0, norm] when the norm or `loss` is not
   * finite, which makes adamwUpdate skip. out (2), squares (any count), loss (1), all f32. maxNorm 0 never clips.
   */
  clipScale(out: Tensor, squares: Tensor, loss: Tensor, maxNorm: number): void;

  /**
   * AdamW with decoupled decay (Loshchilov and Hutter 2019) on g = grad · clip[0], where schedule = [lr, t] and t counts
   * from 1: m = β1·m + (1−β1)·g; v = β2·v + (1−β2)·g²; p = p·(1 − lr·decay) − lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + ε). Works
   * on `master` where there is one, then rounds it to param. Does nothing when clip[0] is 0. m, v f32; all of one size.
   */
  adamwUpdate(
    param: Tensor,
    master: Tensor | null,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    clip: Tensor,
    schedule: Tensor,
    options: AdamwOptions,
  ): void;

  /**
   * Draws one token per sequence: repetition penalty on tokens with seen > 0, then temperature, top-k, top-p (of the
   * probability that top-k left), min-p, then inverse transform, over the ids left in ascending order, of one uniform
   * number from Philox(key = rng[b] words 0 and 1, counter = [positions[b], rng[b] word 2, 0, 0]). Afterwards tokens[b] =
   * the choice, logProbs[b] = its log-probability under softmax of the untouched logits, seen[b, choice] += 1,
   * positions[b] += 1. tokens, positions (B), logProbs (B) f32, logits (B, V) f32 (destroyed), seen (B, V) i32 or null,
   * rng (B, 3) i32. Ties go to the lower id.
   */
  sampleToken(
    tokens: Tensor,
    positions: Tensor,
    logProbs: Tensor,
    logits: Tensor,
    seen: Tensor | null,
    rng: Tensor,
    options: SamplingOptions,
  ): void;

  /** dst = src converted between f32, bf16, f16 (round to nearest even), and from q8_0 or q4_0. Same element count. */
  cast(dst: Tensor, src: Tensor): void;
  /** dst (q8_0 or q4_0) = src (f32, bf16 or f16) rounded as llama.cpp does. Same shape, rows a multiple of 32. */
  quantize(dst: Tensor, src: Tensor): void;
}
