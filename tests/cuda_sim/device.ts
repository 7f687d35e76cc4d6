// The CUDA device that tests use: the simulator where TINYLLAMA_CUDA_SIM=1 asks for it, as `deno task test` does, else a
// card. Nothing in lib knows the simulator: its folder is searched for libraries like any other.

import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { type CudaDevice, openDevice } from "../../lib/backend/cuda/device.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { buildSimulator } from "./build.ts";

/** How to open it. */
export interface CudaForTests {
  readonly name: string;
  /** Why there is none; null when there is one. */
  readonly missing: string | null;
  readonly isSimulated: boolean;
  /** The bare device. */
  openDevice(): CudaDevice;
  /** Its backend. In the simulator a seed other than 0 shuffles the order in which threads run. */
  open(matmul: "f32" | "bf16", seed: number): Backend;
}

const SHUFFLE = "TINYLLAMA_CUDA_SIM_SHUFFLE";

const NOT_ASKED = "no card, and TINYLLAMA_CUDA_SIM=1 is not set";

/** Builds the simulator when it is wanted: it computes minutes where a card takes seconds. */
export async function cudaForTests(): Promise<CudaForTests> {
  const isSimulated = Deno.env.get("TINYLLAMA_CUDA_SIM") === "1";
  if (!isSimulated && isCardThere()) {
    return {
      name: "cuda",
      missing: null,
      isSimulated: false,
      openDevice: () => openDevice(),
      open: (matmul) => cudaBackend(openDevice(), matmul),
    };
  }
  const build = isSimulated
    ? await buildSimulator()
    : { kind: "skipped", reason: NOT_ASKED } as const;
  const folders = build.kind === "built" ? [build.folder] : [];
  const open = () => openDevice(findCuda(folders));
  return {
    name: "cuda (simulator)",
    missing: build.kind === "built" ? null : build.reason,
    isSimulated: true,
    openDevice: open,
    open(matmul, seed) {
      Deno.env.set(SHUFFLE, String(seed));
      try {
        return cudaBackend(open(), matmul);
      } finally {
        Deno.env.delete(SHUFFLE);
      }
    },
  };
}

function isCardThere(): boolean {
  const search = findCuda();
  if (search.kind === "missing") return false;
  openDevice(search)[Symbol.dispose]();
  return true;
}
