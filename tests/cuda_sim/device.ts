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
  /** A backend in bf16 with the kernels for compute capability 9.0 alone; null on a card of another one. */
  readonly openHopper: ((seed: number) => Backend) | null;
  /** A backend in bf16 whose kernels of decoding begin before those they depend on have ended; null on a card before 9.0. */
  readonly openDependent: ((seed: number) => Backend) | null;
}

const SHUFFLE = "TINYLLAMA_CUDA_SIM_SHUFFLE";
const CAPABILITY = "TINYLLAMA_CUDA_SIM_CAPABILITY";
const HOPPER = "TINYLLAMA_CUDA_HOPPER";
const DEPENDENT = "TINYLLAMA_CUDA_PDL";

const NOT_ASKED = "no card, and TINYLLAMA_CUDA_SIM=1 is not set";

/** Builds the simulator when it is wanted: it computes minutes where a card takes seconds. */
export async function cudaForTests(): Promise<CudaForTests> {
  const isSimulated = Deno.env.get("TINYLLAMA_CUDA_SIM") === "1";
  const card = isSimulated ? null : capabilityOfCard();
  if (card !== null) {
    const openBf16 = () => cudaBackend(openDevice(), "bf16");
    return {
      name: "cuda",
      missing: null,
      isSimulated: false,
      openDevice: () => openDevice(),
      open: (matmul) => cudaBackend(openDevice(), matmul),
      openHopper: card === "9.0" ? () => withVariables({ [HOPPER]: "1" }, openBf16) : null,
      openDependent: Number(card) < 9 ? null : () => withVariables({ [DEPENDENT]: "1" }, openBf16),
    };
  }
  const build = isSimulated
    ? await buildSimulator()
    : { kind: "skipped", reason: NOT_ASKED } as const;
  const folders = build.kind === "built" ? [build.folder] : [];
  const open = () => openDevice(findCuda(folders));
  const openWith = (matmul: "f32" | "bf16", seed: number, more: Readonly<Record<string, string>>) =>
    withVariables({ [SHUFFLE]: String(seed), ...more }, () => cudaBackend(open(), matmul));
  return {
    name: "cuda (simulator)",
    missing: build.kind === "built" ? null : build.reason,
    isSimulated: true,
    openDevice: open,
    open: (matmul, seed) => openWith(matmul, seed, {}),
    openHopper: (seed) => openWith("bf16", seed, { [CAPABILITY]: "9.0", [HOPPER]: "1" }),
    openDependent: (seed) => openWith("bf16", seed, { [CAPABILITY]: "9.0", [DEPENDENT]: "1" }),
  };
}

/** Runs with environment variables set, and unsets them. */
function withVariables<T>(variables: Readonly<Record<string, string>>, run: () => T): T {
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    return run();
  } finally {
    for (const name of Object.keys(variables)) Deno.env.delete(name);
  }
}

/** Such as "9.0"; null without a card. */
function capabilityOfCard(): string | null {
  const search = findCuda();
  if (search.kind === "missing") return null;
  using device = openDevice(search);
  return device.capability.join(".");
}
