// Attention alone on a CUDA card, forward and backward, beside PyTorch's scaled_dot_product_attention. A card of compute
// capability 9.0 measures both sets of kernels that it has.

import { attentionWidth } from "../../lib/model/config.ts";
import { openBenchBackend, withSwitch } from "./gpu_device.ts";
import { Measure } from "./gpu_measure.ts";
import { figureOf, peerNote, runTorch } from "./gpu_peer.ts";
import { fillRandom } from "./gpu_random.ts";
import type { BenchSizes } from "./gpu_sizes.ts";
import type { Table } from "./gpu_table.ts";

/** Products of the backward pass for each of the forward pass, in an implementation that computes none twice. */
const BACKWARD_PRODUCTS = 2.5;

/** Asks the backend for the kernels that compute capability 9.0 alone has. */
const HOPPER = "TINYLLAMA_CUDA_HOPPER";

/** Tables of the part `attention`. `torch` is a Python with PyTorch. */
export async function attentionTables(
  sizes: BenchSizes,
  torch: string | undefined,
): Promise<Table[]> {
  const measure = () => measureAttention(sizes);
  const { forwardMs, backwardMs, productTflops, capability } = await withSwitch(
    HOPPER,
    "0",
    measure,
  );
  const hopper = capability === "9.0" ? await withSwitch(HOPPER, "1", measure) : null;
  const peer = await runTorch(torch, "attention", sizes);
  const { batch: B, length: T, model } = sizes, { numHeads: H, numKvHeads: K, headDim: D } = model;
  const flops = 2 * B * T * T * attentionWidth(model);
  const row = (name: string, ms: number, products: number, theirs: number | null) => {
    const tflops = (one: number | null) => one === null ? null : products * flops / one / 1e9;
    const speed = theirs === null ? null : theirs / ms;
    const share = 100 * Number(tflops(ms)) / productTflops;
    return [name, ms, theirs, tflops(ms), tflops(theirs), share, speed, "1"];
  };
  const theirs = [figureOf(peer, "forward_ms"), figureOf(peer, "backward_ms")];
  const both = theirs[0] === null || theirs[1] === null ? null : theirs[0] + theirs[1];
  return [{
    title: `Causal attention of ${B} x ${H}/${K} heads x ${T} x ${D}, bf16`,
    columns: [
      ...["", "ms", "PyTorch, ms", "TFLOP/s", "PyTorch, TFLOP/s", "of a product, %"],
      ...["times as fast", "goal"],
    ],
    rows: [
      row("forward", forwardMs, 1, theirs[0]),
      row("backward", backwardMs, BACKWARD_PRODUCTS, theirs[1]),
      row("both", forwardMs + backwardMs, 1 + BACKWARD_PRODUCTS, both),
      ...hopper === null ? [] : [
        row(`forward, ${HOPPER}=1`, hopper.forwardMs, 1, theirs[0]),
        row(`backward, ${HOPPER}=1`, hopper.backwardMs, BACKWARD_PRODUCTS, theirs[1]),
      ],
    ],
    notes: [
      peerNote(peer),
      "Causal attention counts half the scores; the backward pass 2.5 times the forward pass, " +
      `whatever an implementation computes again. The product: ${
        productTflops.toFixed(0)
      } TFLOP/s.`,
    ],
  }];
}

async function measureAttention(sizes: BenchSizes) {
  using bench = await openBenchBackend();
  using measure = new Measure(bench, sizes);
  // First, because it brings the card to its working clock as well.
  const { productTflops } = await measure.ceilings();
  const { backend: ops } = bench, { batch: B, length: T, model } = sizes;
  const { numHeads: H, numKvHeads: K, headDim: D } = model;
  const qkvSpec = { dtype: "bf16", shape: [B, T, H + 2 * K, D] } as const;
  const outSpec = { dtype: "bf16", shape: [B, T, H, D] } as const;
  using arena = ops.allocate("attention", {
    ...{ qkv: qkvSpec, dQkv: qkvSpec, out: outSpec, dOut: outSpec },
    lse: { dtype: "f32", shape: [B, H, T] },
  });
  const { qkv, dQkv, out, dOut, lse } = arena.tensors;
  fillRandom(ops, qkv, 1);
  fillRandom(ops, dOut, 2);
  const forwardMs = await measure.deviceMs(1, () => ops.attentionForward(out, lse, qkv));
  const backwardMs = await measure.deviceMs(
    1,
    () => ops.attentionBackward(dQkv, dOut, qkv, out, lse),
  );
  return { forwardMs, backwardMs, productTflops, capability: bench.device.capability.join(".") };
}
