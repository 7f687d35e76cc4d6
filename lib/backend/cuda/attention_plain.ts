// Attention on CUDA without tensor cores: any head width, bf16 and f32, training and decoding.

import gradientPtx from "../../../kernels/dist/attention_gradient.ptx" with { type: "text" };
import ptx from "../../../kernels/dist/attention_plain.ptx" with { type: "text" };
import dependentPtx from "../../../kernels/dist/attention_plain_90.ptx" with { type: "text" };
import { byteLengthOf } from "../../core/dtype.ts";
import { carve, type Tensor } from "../../core/tensor.ts";
import { type CudaContext, type CudaKernel, type Extent, i32, type KernelArg } from "./context.ts";
import { FLAT_THREADS, packWidth, scalarOf } from "./geometry.ts";

/** Keys with a softmax of their own, and threads for them: the constants of kernels/cuda/attention_plain.cu. */
const CHUNK = 64;
const THREADS: Extent = [256, 1, 1];
const WARPS: Extent = [32, 4, 1];
const F32_BYTES = 4;
/** Partial outputs in scratch memory; more rows than fit are done in waves. */
const MAX_PARTIALS = 1 << 23;
/** What a warp of the gradient has in shared memory: rows of D f32, and two numbers a lane. */
const GRADIENT_ROWS = 4;
const GRADIENT_LANES = 2 * WARPS[0];

/** Query heads, key/value heads, width, and keys a query may have. */
interface Heads {
  readonly rows: number;
  readonly t: number;
  readonly h: number;
  readonly k: number;
  readonly d: number;
  readonly slots: number;
}

/** Loads kernels/cuda/attention_plain.cu and attention_gradient.cu; allocates nothing per call. */
export function plainAttention(cuda: CudaContext) {
  const scalar = scalarOf(cuda);
  const within = `attention_within_${scalar}` as const,
    slots = `attention_slots_${scalar}` as const;
  const combine = `attention_combine_${scalar}` as const;
  const kernels = cuda.load("attention_plain", ptx, [within, slots, combine], {
    ...{ ptx: dependentPtx, entries: [slots, combine] },
  });
  const deltaOf = `attention_delta_${scalar}` as const;
  const ofQueries = `attention_gradient_queries_${scalar}` as const;
  const ofKeys = `attention_gradient_keys_${scalar}` as const;
  const gradients = cuda.load("attention_gradient", gradientPtx, [deltaOf, ofQueries, ofKeys]);
  /** Partial softmaxes of `kernel` over chunks of keys, then their combination, in waves of rows. */
  const attend = (
    kernel: CudaKernel,
    out: Tensor,
    lse: Tensor | null,
    inputs: readonly Tensor[],
    positions: Tensor | null,
    { rows, t, h, k, d, slots }: Heads,
    more: readonly KernelArg[],
  ) => {
    const chunks = Math.ceil(slots / CHUNK), partials = h * chunks;
    const wave = Math.max(1, Math.min(rows, Math.floor(MAX_PARTIALS / (partials * (d + 2)))));
    const scratch = cuda.scratch(wave * partials * (d + 2));
    const outs = part(scratch, "outs", 0, wave * partials * d);
    const sums = part(scratch, "sums", wave * partials * d, wave * partials * 2);
    const attendBytes = chunkBytes(h / k, d, scalar);
    const combineBytes = (Math.max(THREADS[0], Math.ceil(d / 4)) * 4 + chunks) * F32_BYTES;
    for (let first = 0; first < rows; first += wave) {
      const count = Math.min(wave, rows - first);
      const sizes = [i32(first), i32(chunks), i32(t), i32(h), i32(k), i32(d)];
      const args = [outs, sums, ...inputs, ...sizes, ...more];
      cuda.launch(kernel, [count * chunks, k, 1], THREADS, attendBytes, args);
      cuda.launch(kernels[combine], [count * h, 1, 1], THREADS, combineBytes, [
        ...[out, lse, outs, sums, positions],
        ...[i32(first), i32(chunks), i32(t), i32(h), i32(d)],
      ]);
    }
  };
  return {
    forward(out: Tensor, lse: Tensor | null, qkv: Tensor): void {
      const [b, t, h, d] = out.shape, k = (qkv.shape[2] - h) / 2;
      const heads = { rows: b * t, t, h, k, d, slots: t };
      attend(kernels[within], out, lse, [qkv], null, heads, []);
    },
    cached(out: Tensor, qkv: Tensor, keys: Tensor, values: Tensor, positions: Tensor): void {
      const [b, t, h, d] = out.shape, k = keys.shape[1], s = keys.shape[2];
      const heads = { rows: b * t, t, h, k, d, slots: s };
      attend(kernels[slots], out, null, [qkv, keys, values, positions], positions, heads, [i32(s)]);
    },
    /** sums (B, H, T) = Σ dOut · out of each head of each row. */
    delta(sums: Tensor, dOut: Tensor, out: Tensor, k: number): void {
      const [b, t, h, d] = out.shape;
      const args = [sums, dOut, out, i32(b * t), i32(t), i32(h), i32(k), i32(d)];
      const { grid, block } = deltaBlocks(b * t * h, Math.ceil(d / packWidth(scalar)));
      cuda.launch(gradients[deltaOf], grid, block, 0, args);
    },
    /** `inputs` are dOut, qkv, lse and delta. */
    backward(dQkv: Tensor, inputs: readonly Tensor[], h: number): void {
      const [b, t, heads, d] = dQkv.shape, k = (heads - h) / 2, rows = b * t;
      const sizes = [i32(rows), i32(t), i32(h), i32(k), i32(d)];
      const args = [dQkv, ...inputs, ...sizes];
      const sharedBytes = WARPS[1] * (GRADIENT_ROWS * d + GRADIENT_LANES) * F32_BYTES;
      cuda.launch(gradients[ofQueries], warpBlocks(rows * h), WARPS, sharedBytes, args);
      cuda.launch(gradients[ofKeys], warpBlocks(rows * k), WARPS, sharedBytes, args);
    },
  };
}

/** Shared memory of a block for a chunk: ChunkMemory of kernels/cuda/attention_plain.cu. */
function chunkBytes(group: number, d: number, scalar: "bf16" | "f32"): number {
  const width = packWidth(scalar), stride = Math.ceil(d / width) * width;
  const rowBytes = byteLengthOf(scalar, CHUNK * stride);
  const sumBytes = Math.max(THREADS[0] * width, group * stride) * F32_BYTES;
  return Math.max(rowBytes, sumBytes) + rowBytes + group * (stride + CHUNK) * F32_BYTES;
}

/** A warp for each of `count`. */
function warpBlocks(count: number): Extent {
  return [Math.ceil(count / WARPS[1]), 1, 1];
}

/** As many lanes for each of `rows` as it has packs, up to a warp. */
function deltaBlocks(rows: number, packs: number): { grid: Extent; block: Extent } {
  const lanes = Math.min(WARPS[0], 2 ** Math.ceil(Math.log2(packs)));
  const together = FLAT_THREADS / lanes;
  return { grid: [Math.ceil(rows / together), 1, 1], block: [lanes, together, 1] };
}

/** `count` f32 of scratch memory from number `first` on. */
export function part(scratch: Tensor, name: string, first: number, count: number): Tensor {
  return carve(scratch, name, { dtype: "f32", shape: [count] }, byteLengthOf("f32", first));
}
