// Every device the conformance suite and the model tests run on: one line each. A device that is not there is skipped
// with its reason in the test's name.

import { cpuBackend } from "../../lib/backend/cpu/backend.ts";
import { findNative, openNative } from "../../lib/backend/cpu/native.ts";
import { openBackend } from "../../lib/backend/open.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { cudaForTests } from "../cuda_sim/device.ts";
import { openWebgpu, webgpuMissing } from "./webgpu_adapter.ts";

/** One way to compute. */
export interface TestDevice {
  readonly name: string;
  /** Why it cannot be used here; null when it can. */
  readonly missing: string | null;
  /** Opens it for each of its variants (numbers of threads); all variants must give the same bits. */
  readonly variants: readonly (() => Promise<Backend>)[];
}

const THREADS = [1, 2] as const;

const native = findNative();
const notBuilt = native.kind === "found" ? null : "not built: deno task kernels";
const noBf16 = native.kind === "found" && !native.build.hasBf16
  ? `${native.build.isa} has no bf16 products`
  : notBuilt;

const cudaDevice = await cudaForTests();

/** Opened twice: nothing may depend on what a device did before. */
const WEBGPU: TestDevice = {
  name: "webgpu",
  missing: webgpuMissing,
  variants: [openWebgpu, openWebgpu],
};

/** Devices as a user names them, with products in f32. */
export const DEVICES: readonly TestDevice[] = [
  device("cpu:native", "f32", notBuilt),
  device("cpu:wasm", "f32", null),
  device("cpu:wasm64", "f32", null),
  WEBGPU,
  cuda("f32"),
];

/** Devices whose products round their operands. */
export const ROUNDING_DEVICES: readonly TestDevice[] = [
  device("cpu:native", "bf16", noBf16),
  cuda("bf16"),
];

/** CUDA with the kernels that only compute capability 9.0 has, where it can be had at all. */
export const HOPPER_DEVICES: readonly TestDevice[] = onlyWith(
  "for compute capability 9.0",
  cudaDevice.openHopper,
);

/** CUDA with kernels that begin before those they depend on have ended, where the card can. */
export const DEPENDENT_DEVICES: readonly TestDevice[] = onlyWith(
  "in dependent launches",
  cudaDevice.openDependent,
);

/** The native kernels for instruction sets below the best of this machine, which `openBackend` would not choose. */
export const OLDER_NATIVE_BUILDS: readonly TestDevice[] = olderBuilds();

function device(name: string, matmul: "f32" | "bf16", missing: string | null): TestDevice {
  return {
    name: matmul === "f32" ? name : `${name} (${matmul} products)`,
    missing,
    variants: THREADS.map((threads) => () => openBackend({ device: name, threads, matmul })),
  };
}

/** Opened twice, in the simulator with its threads in another order the second time. */
function cuda(matmul: "f32" | "bf16"): TestDevice {
  const { name, missing, open } = cudaDevice;
  return {
    name: `${name} ${matmul}`,
    missing,
    variants: [0, 1].map((seed) => () => Promise.resolve(open(matmul, seed))),
  };
}

/** CUDA in bf16 with what only some cards have. */
function onlyWith(what: string, open: ((seed: number) => Backend) | null): TestDevice[] {
  const { name, missing } = cudaDevice;
  if (open === null) return [];
  const variants = [0, 1].map((seed) => () => Promise.resolve(open(seed)));
  return [{ name: `${name} bf16 ${what}`, missing, variants }];
}

function olderBuilds(): TestDevice[] {
  if (native.kind === "missing") return [];
  const { build } = native;
  const names = Deno.build.arch === "x86_64"
    ? ["avx512bf16", "avx512", "avx2", "baseline"]
    : ["bf16", "dotprod", "baseline"];
  return names.slice(names.indexOf(build.isa) + 1).map((isa) => {
    const path = build.path.replace(`_${build.isa}.`, `_${isa}.`);
    const older = { ...build, isa, path, hasBf16: false };
    return {
      name: `cpu:native ${isa}`,
      missing: isFile(path) ? null : "not built: deno task kernels",
      variants: THREADS.map((threads) => () =>
        Promise.resolve(cpuBackend(openNative(older, threads), "f32"))
      ),
    };
  });
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Registers one test a device; `run` gets all variants open and may register steps. */
export function onDevices(
  name: string,
  devices: readonly TestDevice[],
  run: (backends: readonly Backend[], t: Deno.TestContext) => Promise<void>,
): void {
  for (const { name: deviceName, missing, variants } of devices) {
    Deno.test({
      name: `${name} on ${deviceName}${missing === null ? "" : ` (skipped: ${missing})`}`,
      ignore: missing !== null,
      async fn(t) {
        using opened = new DisposableStack();
        const backends: Backend[] = [];
        for (const open of variants) backends.push(opened.use(await open()));
        await run(backends, t);
      },
    });
  }
}
