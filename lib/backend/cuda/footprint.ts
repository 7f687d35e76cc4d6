// What the CUDA backend takes of a device, known without one: how arenas are laid out, what is reserved beside them, and the
// dtypes of each precision.

import type { Allocation, Precision } from "../../core/backend.ts";

/** bf16 with f32 sums, gradients and master weights (the paper's), or f32 throughout. */
export const CUDA_PRECISIONS: Readonly<Record<"bf16" | "f32", Precision>> = {
  bf16: { param: "bf16", compute: "bf16", grad: "f32", master: "f32", matmul: "bf16" },
  f32: { param: "f32", compute: "f32", grad: "f32", master: null, matmul: "f32" },
};

/** Tensors begin at multiples of this many bytes: cudaMalloc's own alignment. */
export const CUDA_ALIGNMENT = 256;

/** What cuBLASLt's algorithms may use between their parts; 32 MiB is its maker's advice for Hopper. */
export const WORKSPACE: Allocation = { label: "cuBLASLt workspace", byteLength: 32 << 20 };

/** Memory that keeps nothing between operations: enough for any operation of training, so that it does not grow later. */
export const SCRATCH: Allocation = { label: "scratch", byteLength: 64 << 20 };

/** Where small reads wait on their way to the host; a loss takes 512 bytes. */
export const READ_BACKS: Allocation = { label: "read-backs", byteLength: 4 << 20 };

/** What a backend reserves when it opens, in the order of its memory table. */
export const CUDA_RESERVED: readonly Allocation[] = [READ_BACKS, SCRATCH, WORKSPACE];
