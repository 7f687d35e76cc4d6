// Compiles kernels/c into dist: the WASM modules, which are committed, and one native library per instruction set,
// which are not; and kernels/cuda into PTX, which is committed. Run it with `deno task kernels`, or with `wasm`, `ptx` or
// instruction sets behind it for these alone. What is missing on this machine is skipped and said.

import { buildPtx, ptxFamilies, ptxHashes } from "./build_ptx.ts";

const ROOT = import.meta.dirname;
if (ROOT === undefined) throw new Error("Cannot build kernels: build.ts must be a local file");
const SOURCES = `${ROOT}/c`;
const DIST = `${ROOT}/dist`;

const WASM_MAX_BYTES = { wasm32: 4 * 1024 ** 3, wasm64: 16 * 1024 ** 3 } as const;
const COMMON_FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno"] as const;
const WASM_FLAGS = [
  ...["-msimd128", "-mrelaxed-simd", "-matomics", "-mbulk-memory", "-mnontrapping-fptoint"],
  ...["-nostdlib", "-ffreestanding", "-fvisibility=hidden"],
];
const NATIVE_FLAGS = ["-fPIC", "-shared", "-pthread", "-fvisibility=hidden"];

const AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c"];
const ISA_FLAGS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  x86_64: {
    baseline: [],
    avx2: ["-mavx2", "-mfma", "-mf16c"],
    avx512: [...AVX512, "-mprefer-vector-width=512"],
    avx512bf16: [...AVX512, "-mprefer-vector-width=512", "-mavx512vnni", "-mavx512bf16"],
  },
  aarch64: {
    baseline: [],
    dotprod: ["-march=armv8.2-a+dotprod"],
    bf16: ["-march=armv8.2-a+dotprod+bf16"],
  },
};

interface Manifest {
  /** Artifact name to sha256 over its sources. */
  readonly artifacts: Readonly<Record<string, string>>;
}

/** Names of the C files under kernels/c with one of these endings, sorted. */
function sourceNames(endings: readonly string[]): string[] {
  return [...Deno.readDirSync(SOURCES)]
    .map((entry) => entry.name)
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .sort();
}

/** sha256 over names and contents of all sources and the flags, as hexadecimal. */
async function sourceHash(flags: readonly string[]): Promise<string> {
  const parts = [new TextEncoder().encode(flags.join(" "))];
  for (const name of sourceNames([".c", ".h"])) {
    parts.push(new TextEncoder().encode(`\n${name}\n`), Deno.readFileSync(`${SOURCES}/${name}`));
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

function wasmFlags(target: "wasm32" | "wasm64"): string[] {
  return [
    ...[`--target=${target}`, ...COMMON_FLAGS, ...WASM_FLAGS],
    ...["--no-entry", "--import-memory", "--shared-memory"],
    `--max-memory=${WASM_MAX_BYTES[target]}`,
    ...["--export=__stack_pointer", "--export=__heap_base", "--export-dynamic", "--strip-all"],
  ].map((flag, index, all) => index > all.indexOf("--no-entry") - 1 ? `-Wl,${flag}` : flag);
}

/** What the committed manifest must say for the sources as they are now. */
export async function expectedManifest(): Promise<Manifest> {
  return { artifacts: { ...await ptxHashes(), ...await wasmHashes() } };
}

async function wasmHashes(): Promise<Manifest["artifacts"]> {
  return {
    "kernels.wasm": await sourceHash(wasmFlags("wasm32")),
    "kernels64.wasm": await sourceHash(wasmFlags("wasm64")),
  };
}

/** Notes in the manifest which sources artifacts were just built from; forgets artifacts without a source. */
async function noteBuilt(built: Manifest["artifacts"]): Promise<void> {
  const path = `${DIST}/manifest.json`;
  const noted: Manifest = JSON.parse(Deno.readTextFileSync(path));
  const artifacts: Record<string, string> = {};
  for (const name of Object.keys((await expectedManifest()).artifacts)) {
    const hash = built[name] ?? noted.artifacts[name];
    if (hash !== undefined) artifacts[name] = hash;
  }
  Deno.writeTextFileSync(path, `${JSON.stringify({ artifacts }, null, 2)}\n`);
}

/** The first of these commands that runs, or null. */
function findCommand(names: readonly string[]): string | null {
  for (const name of names) {
    try {
      if (new Deno.Command(name, { args: ["--version"], stdout: "null" }).outputSync().success) {
        return name;
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return null;
}

/** Compiles all sources into `artifact` at once; throws what the compiler said when it fails. */
function compile(compiler: string, flags: readonly string[], artifact: string): void {
  const inputs = sourceNames([".c"]).map((name) => `${SOURCES}/${name}`);
  const partial = `${DIST}/.${artifact}.partial`;
  const args = [...flags, ...inputs, "-o", partial];
  const { success, stderr } = new Deno.Command(compiler, { args, stderr: "piped" }).outputSync();
  if (!success) {
    throw new Error(`Cannot build ${artifact}:\n${new TextDecoder().decode(stderr)}`);
  }
  Deno.renameSync(partial, `${DIST}/${artifact}`);
  const { size } = Deno.statSync(`${DIST}/${artifact}`);
  say(`${artifact}  ${Math.round(size / 1024)} KiB  (${compiler})`);
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

async function buildWasm(): Promise<void> {
  const clang = findCommand(["clang-19", "clang-20", "clang-21", "clang"]);
  if (clang === null) {
    say("kernels.wasm, kernels64.wasm: kept as committed, clang is not installed");
    return;
  }
  for (const target of ["wasm32", "wasm64"] as const) {
    const artifact = target === "wasm32" ? "kernels.wasm" : "kernels64.wasm";
    compile(clang, wasmFlags(target), artifact);
  }
  await noteBuilt(await wasmHashes());
}

async function buildAllPtx(): Promise<void> {
  if (findCommand(["nvcc"]) === null || findCommand(["ptxas"]) === null) {
    say("*.ptx: kept as committed, nvcc is not installed");
    return;
  }
  for (const family of ptxFamilies()) {
    const hashes = await ptxHashes();
    const version = buildPtx(family);
    const { size } = Deno.statSync(`${DIST}/${family}.ptx`);
    say(`${family}.ptx  ${Math.round(size / 1024)} KiB  (PTX ${version})`);
    await noteBuilt({ [`${family}.ptx`]: hashes[`${family}.ptx`] });
  }
}

function buildNative(only: readonly string[]): void {
  const { os, arch } = Deno.build;
  const compiler = findCommand(["gcc", "clang-19", "clang", "cc"]);
  if (compiler === null) {
    say("native libraries: skipped, no C compiler (gcc, clang or cc) is installed");
    return;
  }
  for (const [isa, flags] of Object.entries(ISA_FLAGS[arch] ?? { baseline: [] })) {
    if (only.length > 0 && !only.includes(isa)) continue;
    compile(
      compiler,
      [...COMMON_FLAGS, ...NATIVE_FLAGS, ...flags, "-lm"],
      `libtinyllama_${os}_${arch}_${isa}.so`,
    );
  }
}

if (import.meta.main) {
  Deno.mkdirSync(DIST, { recursive: true });
  const only = Deno.args;
  const isas = only.filter((name) => name !== "wasm" && name !== "ptx");
  if (only.length === 0 || only.includes("wasm")) await buildWasm();
  if (only.length === 0 || only.includes("ptx")) await buildAllPtx();
  if (only.length === 0 || isas.length > 0) buildNative(isas);
}
