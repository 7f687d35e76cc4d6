// What a device takes for what is allocated on it, known without opening it: dry runs plan with this.

import type { Allocation, Backend, Precision } from "../core/backend.ts";
import { ALIGNMENT } from "./cpu/allocator.ts";
import { CUDA_ALIGNMENT, CUDA_PRECISIONS, CUDA_RESERVED } from "./cuda/footprint.ts";

/** How a kind of device allocates. */
export interface Footprint {
  readonly kind: Backend["kind"];
  readonly precision: Precision;
  /** Bytes to a multiple of which each tensor is rounded up. */
  readonly alignment: number;
  /** What the backend holds for its own work. */
  readonly reserved: readonly Allocation[];
}

/** WebGPU copies whole words. */
const WORD_BYTES = 4;

/** The footprint of a device that computes as `matmul` says; as `--precision` takes it. */
export function footprintOf(kind: Backend["kind"], matmul: "f32" | "bf16" | "auto"): Footprint {
  switch (kind) {
    case "cuda": {
      const precision = CUDA_PRECISIONS[matmul === "f32" ? "f32" : "bf16"];
      return { kind, precision, alignment: CUDA_ALIGNMENT, reserved: CUDA_RESERVED };
    }
    case "cpu":
      return { kind, precision: trainingInF32(matmul), alignment: ALIGNMENT, reserved: [] };
    case "webgpu":
      return { kind, precision: trainingInF32("f32"), alignment: WORD_BYTES, reserved: [] };
    default:
      return kind satisfies never;
  }
}

/** Everything is f32; only what products round to may be less, which takes no other memory. */
function trainingInF32(matmul: "f32" | "bf16" | "auto"): Precision {
  const rounded = matmul === "bf16" ? "bf16" : "f32";
  return { param: "f32", compute: "f32", grad: "f32", master: null, matmul: rounded };
}
