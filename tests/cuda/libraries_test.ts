// Where the CUDA libraries are looked for, and that they stay once they are loaded. The simulator's library lies where
// NVIDIA's packages put theirs.

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { keepLoaded, openLibrary } from "../../ffi/library.ts";
import { cudaBackend } from "../../lib/backend/cuda/backend.ts";
import { openDevice } from "../../lib/backend/cuda/device.ts";
import { findCuda } from "../../lib/backend/cuda/libraries.ts";
import { buildSimulator } from "../cuda_sim/build.ts";
import { inTempFolder } from "../temp_folder.ts";

const simulator = await buildSimulator();
const PROGRAM = decodeURIComponent(new URL("./find_cuda.ts", import.meta.url).pathname);
const library = simulator.kind === "built" ? `${simulator.folder}/libcuda_sim.so` : "";

function inSimulator(name: string, run: (folder: string) => void | Promise<void>): void {
  const reason = simulator.kind === "built" ? "" : ` (skipped: ${simulator.reason})`;
  Deno.test({
    name: `${name} in the CUDA simulator${reason}`,
    ignore: simulator.kind === "missing",
    fn: () => inTempFolder(run),
  });
}

interface Found {
  readonly paths: readonly string[];
  readonly reason: string | null;
}

/** What is found with `folder` as the first place, by a process with these variables. */
function findWith(folder: string, env: Readonly<Record<string, string>>): Found {
  const args = ["run", "-A", "--no-check", PROGRAM, folder];
  const { stdout, stderr } = new Deno.Command(Deno.execPath(), { args, env }).outputSync();
  const decoder = new TextDecoder(), text = decoder.decode(stdout);
  assert.notEqual(text, "", decoder.decode(stderr));
  return JSON.parse(text);
}

/** Makes a link, and the folders that it lies in. */
function link(target: string, path: string): void {
  Deno.mkdirSync(dirname(path), { recursive: true });
  Deno.symlinkSync(target, path);
}

/** The paths of the runtime and of cuBLASLt that are found beside a driver in `folder`/driver. */
function pathsFound(folder: string, env: Readonly<Record<string, string>>): readonly string[] {
  const { paths, reason } = findWith(`${folder}/driver`, env);
  assert.equal(reason, null);
  return paths.slice(1);
}

/** Whether the system's search finds one on its own, as it then does before any wheel. */
function isInSystem(name: string): boolean {
  try {
    Deno.dlopen(name, {}).close();
    return true;
  } catch {
    return false;
  }
}

/** Where a folder of wheels is the only place with these libraries. */
function expectPaths(found: readonly string[], folder: string, expected: readonly string[]): void {
  expected.forEach((path, i) => {
    const name = path.slice(path.lastIndexOf("/") + 1);
    assert.equal(found[i], isInSystem(name) ? name : `${folder}/${path}`);
  });
}

inSimulator("wheels of CUDA 13 are found beside the python3 on the PATH", (folder) => {
  const wheels = "venv/lib/python3.12/site-packages/nvidia/cu13/lib";
  const names = ["libcudart.so.13", "libcublasLt.so.13"].map((name) => `${wheels}/${name}`);
  for (const name of names) link(library, `${folder}/${name}`);
  Deno.mkdirSync(`${folder}/base`);
  Deno.writeTextFileSync(`${folder}/base/python3.12`, "");
  link(library, `${folder}/driver/libcuda.so.1`);
  link(`${folder}/base/python3.12`, `${folder}/venv/bin/python3`);
  link("../venv/bin/python3", `${folder}/tools/python3`);
  const variables = { TINYLLAMA_CUDA_SIM_DRIVER: "13000", VIRTUAL_ENV: "", CONDA_PREFIX: "" };
  for (const [i, path] of ["venv/bin", "tools"].entries()) {
    const found = pathsFound(folder, { ...variables, PATH: `/nowhere:${folder}/${path}` });
    expectPaths(found, i === 0 ? folder : `${folder}/tools/..`, names);
  }
});

inSimulator("wheels of CUDA 12 are found in the environment in use", (folder) => {
  const packages = "venv/lib/python3.11/site-packages/nvidia";
  const names = [
    `${packages}/cuda_runtime/lib/libcudart.so.12`,
    `${packages}/cublas/lib/libcublasLt.so.12`,
  ];
  for (const name of names) link(library, `${folder}/${name}`);
  link(library, `${folder}/driver/libcuda.so.1`);
  // Too new for the driver, which is of CUDA 12.4.
  for (const name of ["libcudart.so.13", "libcublasLt.so.13"]) {
    link(library, `${folder}/${packages}/cu13/lib/${name}`);
  }
  expectPaths(pathsFound(folder, { VIRTUAL_ENV: `${folder}/venv` }), folder, names);
});

inSimulator("a card that the kernels are not for is said to be one", (folder) => {
  link(library, `${folder}/libcuda.so.1`);
  const { reason } = findWith(folder, { TINYLLAMA_CUDA_SIM_CAPABILITY: "7.5" });
  const expected =
    "the card is of compute capability 7.5, and the kernels need 8.0 (Ampere) or newer";
  assert.equal(reason, expected);
});

inSimulator("work that is awaited while its backend is closed ends", async () => {
  const backend = cudaBackend(openDevice(findCuda([dirname(library)])), "f32");
  const arena = backend.allocate("a", { x: { dtype: "f32", shape: [64] } });
  backend.fill(arena.tensors.x, 1);
  const done = backend.synchronize();
  backend[Symbol.dispose]();
  await done;
});

/** A part of glibc that no program needs. */
const UNUSED = "libBrokenLocale.so.1";

Deno.test({
  name: `a library that is kept outlasts its closing${
    isInSystem(UNUSED) ? "" : ` (skipped: no ${UNUSED})`
  }`,
  ignore: !isInSystem(UNUSED),
  fn() {
    const isLoaded = () => Deno.readTextFileSync("/proc/self/maps").includes(UNUSED);
    assert.ok(!isLoaded());
    const opened = openLibrary([UNUSED], {});
    assert.ok(opened.kind === "opened" && isLoaded());
    keepLoaded(UNUSED);
    opened.library.close();
    assert.ok(isLoaded());
  },
});
