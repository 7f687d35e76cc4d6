// Builds the stand-ins for libcuda, libcudart and libcublasLt from kernels/cuda and the C++ files beside this one. One
// library with all symbols under three names; kept under dist/ by a hash of everything it is made of.

const HERE = decodeURIComponent(new URL(".", import.meta.url).pathname).replace(/\/$/, "");
const ROOT = decodeURIComponent(new URL("../..", import.meta.url).pathname).replace(/\/$/, "");
const KERNELS = `${ROOT}/kernels/cuda`;
const DIST = `${ROOT}/dist/cuda_sim`;

const FLAGS = [
  ...[
    "-std=c++20",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fPIC",
    "-fvisibility=hidden",
    "-w",
  ],
  ...["-DCUDA_SIM=1", `-I${HERE}`],
];
// g++ would take structures apart before their accesses, and so their alignment, can be judged.
const GCC_FLAGS = ["-fno-tree-sra"];
// clang++ does not report what it moves under a mask; and version 19 drops the second fabsf of fabsf(a) > fabsf(c ? b : 0),
// unless it does not know that function.
const CLANG_FLAGS = ["-fno-vectorize", "-fno-slp-vectorize", "-fno-builtin-fabsf"];
const LIBRARY_NAMES = ["libcuda.so.1", "libcudart.so.12", "libcublasLt.so.12"] as const;
const LIBRARY = "libcuda_sim.so";

/** The folder with the stand-ins, or why there is none. */
export type SimulatorBuild =
  | { readonly kind: "built"; readonly folder: string }
  | { readonly kind: "missing"; readonly reason: string };

/**
 * Builds what is not built yet of the kernels in a folder, in about half a minute. TINYLLAMA_CUDA_SIM=0 asks for none, as
 * `deno task test:gpu` does.
 * @throws {Error} with the compiler's words when a source does not compile.
 */
export async function buildSimulator(kernels = KERNELS): Promise<SimulatorBuild> {
  if (Deno.env.get("TINYLLAMA_CUDA_SIM") === "0") {
    return { kind: "missing", reason: "TINYLLAMA_CUDA_SIM=0 asks for none" };
  }
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    return { kind: "missing", reason: "the CUDA simulator runs on Linux x86_64 only" };
  }
  const compiler = await findCompiler();
  if (compiler === null) {
    return { kind: "missing", reason: "no C++ compiler (g++ or clang++) for the CUDA simulator" };
  }
  const folder = `${DIST}/${await hashOf([compiler.version, ...sources(kernels)])}`;
  if (exists(`${folder}/${LIBRARY}`)) return { kind: "built", folder };
  Deno.mkdirSync(folder, { recursive: true });
  const scratch = Deno.makeTempDirSync();
  try {
    await link(compiler.command, kernels, folder, scratch);
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
  return { kind: "built", folder };
}

async function link(
  compiler: string,
  kernels: string,
  folder: string,
  scratch: string,
): Promise<void> {
  const jobs = [
    ...names(HERE, ".cpp").map((name) => () =>
      compile(compiler, name, `#include "${HERE}/${name}"\n`, FLAGS, scratch)
    ),
    ...names(kernels, ".cu").map((name) => () => compileFamily(compiler, kernels, name, scratch)),
  ];
  const objects = await inParallel(jobs, navigator.hardwareConcurrency);
  const partial = `${folder}/.${LIBRARY}.${Deno.pid}`;
  await execute(compiler, ["-shared", "-Wl,-Bsymbolic", "-o", partial, ...objects]);
  for (const name of LIBRARY_NAMES) {
    const temporary = `${partial}.${name}`;
    Deno.symlinkSync(LIBRARY, temporary);
    Deno.renameSync(temporary, `${folder}/${name}`);
  }
  Deno.renameSync(partial, `${folder}/${LIBRARY}`);
}

async function findCompiler() {
  for (const command of ["g++", "clang++-19", "clang++"]) {
    try {
      const { success, stdout } = await new Deno.Command(command, { args: ["--version"] }).output();
      if (success) return { command, version: new TextDecoder().decode(stdout) };
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return null;
}

function names(folder: string, ending: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.endsWith(ending)).sort();
}

/** Names and contents of all the library is made of. */
function sources(kernels: string): string[] {
  const paths = [
    ...[".cu", ".cuh"].flatMap((ending) => names(kernels, ending)).map((name) =>
      `${kernels}/${name}`
    ),
    ...[".cpp", ".h", ".ts"].flatMap((ending) => names(HERE, ending)).map((name) =>
      `${HERE}/${name}`
    ),
  ];
  return paths.flatMap((path) => [path, Deno.readTextFileSync(path)]);
}

async function hashOf(parts: readonly string[]): Promise<string> {
  const bytes = new TextEncoder().encode(parts.join("\0"));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function execute(command: string, args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args] }).output();
  if (success) return new TextDecoder().decode(stdout);
  const words = new TextDecoder().decode(stderr).split("\n").slice(0, 40).join("\n");
  throw new Error(`Cannot build the CUDA simulator: ${command} ${args.join(" ")}:\n${words}`);
}

async function inParallel<T>(jobs: readonly (() => Promise<T>)[], workers: number): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const work = async () => {
    while (next < jobs.length) {
      const index = next++;
      results[index] = await jobs[index]();
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  return results;
}

/** Preprocesses and compiles `text` unless its object is there already. */
async function compile(
  compiler: string,
  name: string,
  text: string,
  flags: readonly string[],
  scratch: string,
  translated = (preprocessed: string) => preprocessed,
): Promise<string> {
  const source = `${scratch}/${name}.cc`;
  Deno.writeTextFileSync(source, text);
  const preprocessed = translated(await execute(compiler, [...flags, "-E", source]));
  const object = `${DIST}/${name}.${await hashOf([compiler, preprocessed, ...flags])}.o`;
  if (exists(object)) return object;
  Deno.writeTextFileSync(`${scratch}/${name}.ii`, preprocessed);
  const partial = `${object}.${Deno.pid}`;
  const input = ["-x", "c++-cpp-output", `${scratch}/${name}.ii`];
  await execute(compiler, [...flags, "-c", ...input, "-o", partial]);
  Deno.renameSync(partial, object);
  return object;
}

/** Each family in a namespace of its own: two may have functions of one name. */
function compileFamily(
  compiler: string,
  kernels: string,
  name: string,
  scratch: string,
): Promise<string> {
  const family = name.replace(".cu", "");
  const text =
    `#include "cuda_sim.h"\nnamespace family_${family} {\n#include "${kernels}/${name}"\n}\n`;
  const instrumented = ["-fsanitize=thread", ...compiler === "g++" ? GCC_FLAGS : CLANG_FLAGS];
  const flags = [...FLAGS, ...instrumented];
  return compile(compiler, name, text, flags, scratch, (one) => translate(one, family));
}

/** Turns what is left of CUDA's language after preprocessing into C++. */
export function translate(text: string, family: string): string {
  const registrations: string[] = [];
  const kernel =
    /extern\s+"C"\s+__global__\s+(?:__launch_bounds__\(([^)]*)\)\s+)?void\s+(?:__launch_bounds__\(([^)]*)\)\s+)?(\w+)\s*\(/g;
  const functions = text.replace(kernel, (_, before, after, name) => {
    const bounds = before ?? after ?? "0";
    registrations.push(
      `static cuda_sim::Registration ${name}_entry("${name}", family_${family}::${name}, ` +
        `[] { using namespace family_${family}; return unsigned(${bounds.split(",")[0]}); }());`,
    );
    return `extern "C" void ${name}(`;
  });
  const shared =
    /(extern\s+)?__shared__\s+((?:__attribute__\(\(aligned\(\d+\)\)\)|alignas\([^)]*\))\s+)?([^;]+);/g;
  const variables = functions.replace(
    shared,
    (_, isExtern, alignment, declaration) =>
      sharedVariables(declaration, alignment ?? "", isExtern !== undefined),
  );
  return `${variables}\n${registrations.join("\n")}\n`;
}

/** `float a[2][3], b` as references into the block's shared memory. */
function sharedVariables(declaration: string, alignment: string, isExtern: boolean): string {
  const match = declaration.match(/^(.*?[\s*&>])(\w+(?:\s*\[[\s\S]*)?(?:,[\s\S]*)?)$/);
  if (match === null) throw new Error(`Cannot read the declaration "__shared__ ${declaration}"`);
  const [, type, list] = match;
  const bytes = alignment.match(/\(+(?:aligned\()?(\d+)\)/)?.[1] ?? "0";
  return list.split(/,(?![^\[]*\])/).map((one) => {
    const [, name, extents] = one.trim().match(/^(\w+)([\s\S]*)$/) ?? [];
    if (isExtern) return `${type}*${name} = (${type}*)cuda_sim::dynamic_shared();`;
    return `typedef ${type} ${name}_type${extents}; static const char ${name}_key = 0; ` +
      `${name}_type &${name} = cuda_sim::shared_variable<${name}_type>(&${name}_key, ${bytes});`;
  }).join(" ");
}

if (import.meta.main) {
  const build = await buildSimulator();
  const text = build.kind === "built" ? build.folder : build.reason;
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
