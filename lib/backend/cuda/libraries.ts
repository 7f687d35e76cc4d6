// Where the CUDA libraries are: the system's own search (LD_LIBRARY_PATH, ldconfig), then the usual CUDA folders, then the
// wheels that Python's package manager installs. TINYLLAMA_CUDA_LIBRARIES names folders to look in first.

import { CUBLASLT_NAMES, CUBLASLT_SYMBOLS } from "../../../ffi/cublaslt.ts";
import { CUDA, CUDA_NAMES, CUDA_SYMBOLS } from "../../../ffi/cuda.ts";
import { CUDART_NAMES, CUDART_SYMBOLS } from "../../../ffi/cudart.ts";
import { keepLoaded, type OpenedLibrary, openLibrary } from "../../../ffi/library.ts";

/** The three libraries, opened. */
export interface CudaLibraries {
  readonly driver: Deno.DynamicLibrary<typeof CUDA_SYMBOLS>;
  readonly runtime: Deno.DynamicLibrary<typeof CUDART_SYMBOLS>;
  readonly blas: Deno.DynamicLibrary<typeof CUBLASLT_SYMBOLS>;
  /** Where they were found: driver, runtime, cuBLASLt. */
  readonly paths: readonly string[];
  /** Version of CUDA that the driver knows, such as 12040. */
  readonly driverVersion: number;
}

/** The libraries and a device, or what is missing. `tried` is one line a candidate. */
export type CudaSearch =
  | { readonly kind: "found"; readonly libraries: CudaLibraries }
  | { readonly kind: "missing"; readonly reason: string; readonly tried: readonly string[] };

/** Folders that the environment variable TINYLLAMA_CUDA_LIBRARIES names. */
function namedFolders(): readonly string[] {
  return (Deno.env.get("TINYLLAMA_CUDA_LIBRARIES") ?? "").split(":").filter((one) => one !== "");
}

/**
 * Looks for a driver with a device first: where there is none, nothing else is looked for. `folders` come before all
 * other places.
 */
export function findCuda(folders: readonly string[] = namedFolders()): CudaSearch {
  if (Deno.build.os !== "linux") {
    return { kind: "missing", reason: "CUDA is used on Linux only", tried: [] };
  }
  const opened = openLibrary(candidates(CUDA_NAMES, folders, DRIVER_FOLDERS), CUDA_SYMBOLS);
  if (opened.kind === "missing") {
    return { kind: "missing", reason: "no NVIDIA driver (libcuda)", tried: opened.tried };
  }
  // They have threads and handlers that outlive a closed device; a device opened later finds them as they were.
  keepLoaded(opened.path);
  const driver = opened.library, number = new Int32Array(1);
  const refusal = refusalOf(driver, number);
  if (refusal !== null) {
    driver.close();
    return { kind: "missing", reason: refusal, tried: [opened.path] };
  }
  driver.symbols.cuDriverGetVersion(number);
  const driverVersion = number[0], wheels = [...toolkitFolders(), ...wheelFolders()];
  const places = (names: readonly string[]) =>
    candidates(names.filter((name) => isUsable(name, driverVersion)), folders, wheels);
  const runtime = openLibrary(places(CUDART_NAMES), CUDART_SYMBOLS);
  const blas = openLibrary(places(CUBLASLT_NAMES), CUBLASLT_SYMBOLS);
  if (runtime.kind === "opened" && blas.kind === "opened") {
    const paths = [opened.path, runtime.path, blas.path];
    for (const path of [runtime.path, blas.path]) keepLoaded(path);
    const libraries = {
      driver,
      runtime: runtime.library,
      blas: blas.library,
      paths,
      driverVersion,
    };
    return { kind: "found", libraries };
  }
  driver.close();
  return {
    kind: "missing",
    reason: `the driver (CUDA ${versionText(driverVersion)}) is there, but not ` +
      [...missingNames("libcudart", runtime), ...missingNames("libcublasLt", blas)].join(" nor "),
    tried: [...triedOf(runtime), ...triedOf(blas)],
  };
}

/** Closes all three. */
export function closeLibraries({ driver, runtime, blas }: CudaLibraries): void {
  blas.close();
  runtime.close();
  driver.close();
}

/** Such as `12.4` for 12040. */
export function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor(version % 1000 / 10)}`;
}

/** Why the driver offers no device; null when it does. */
function refusalOf(
  driver: Deno.DynamicLibrary<typeof CUDA_SYMBOLS>,
  count: Int32Array<ArrayBuffer>,
): string | null {
  const { symbols } = driver;
  const status = symbols.cuInit(0) || symbols.cuDeviceGetCount(count);
  if (status !== 0) {
    return `the NVIDIA driver is there, but cuInit says ${driverMessage(driver, status)}`;
  }
  if (count[0] === 0) return "the NVIDIA driver is there, but no device";
  const device = new Int32Array(1);
  symbols.cuDeviceGet(device, 0);
  const capability = [
    CUDA.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
    CUDA.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
  ].map((attribute) => {
    symbols.cuDeviceGetAttribute(count, attribute, device[0]);
    return count[0];
  });
  if (capability[0] >= LEAST_MAJOR) return null;
  return `the card is of compute capability ${capability.join(".")}, and the kernels need ` +
    `${LEAST_MAJOR}.0 (Ampere) or newer`;
}

/** Of the PTX in kernels/dist. */
const LEAST_MAJOR = 8;

/** What the driver says of a status. */
export function driverMessage(
  driver: Deno.DynamicLibrary<typeof CUDA_SYMBOLS>,
  status: number,
): string {
  const place = new BigUint64Array(1);
  driver.symbols.cuGetErrorString(status, place);
  const pointer = Deno.UnsafePointer.create(place[0]);
  return pointer === null ? "unknown error" : Deno.UnsafePointerView.getCString(pointer);
}

/** A library of a newer major version than the driver's does not run on it. */
function isUsable(name: string, driverVersion: number): boolean {
  return Number(name.match(/\.so\.(\d+)/)?.[1]) <= Math.floor(driverVersion / 1000);
}

function missingNames<S extends Deno.ForeignLibraryInterface>(
  name: string,
  search: OpenedLibrary<S>,
): readonly string[] {
  return search.kind === "missing" ? [name] : [];
}

/** Closes what was opened. */
function triedOf<S extends Deno.ForeignLibraryInterface>(
  search: OpenedLibrary<S>,
): readonly string[] {
  if (search.kind === "missing") return search.tried;
  search.library.close();
  return [];
}

/** Where the driver is put beside the folders that the system's search knows; containers have it in /usr/local/nvidia. */
const DRIVER_FOLDERS = [
  "/usr/local/nvidia/lib64",
  "/usr/local/nvidia/lib",
  "/usr/lib/wsl/lib",
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/run/opengl-driver/lib",
];

/** Names in the folders asked for, then as the system finds them, then in `others` where the file is there. */
function candidates(
  names: readonly string[],
  folders: readonly string[],
  others: readonly string[],
): string[] {
  const inside = (all: readonly string[]) =>
    all.flatMap((folder) => names.map((name) => `${folder}/${name}`));
  return [...inside(folders), ...names, ...inside(others).filter(exists)];
}

function toolkitFolders(): string[] {
  const homes = [Deno.env.get("CUDA_HOME"), Deno.env.get("CUDA_PATH"), "/opt/cuda"];
  const versions = entries("/usr/local").filter((name) => name.startsWith("cuda")).sort().reverse();
  return [...homes, ...versions.map((name) => `/usr/local/${name}`)]
    .flatMap((home) => home === undefined || home === "" ? [] : [`${home}/lib64`, `${home}/lib`]);
}

/**
 * `site-packages/nvidia/NAME/lib` of the environment in use, of the Pythons on the PATH, and of the system's: NAME is
 * `cublas` and `cuda_runtime` in the wheels of CUDA 11 and 12, `cu13` in those of 13.
 */
function wheelFolders(): string[] {
  const homes = [
    Deno.env.get("VIRTUAL_ENV"),
    Deno.env.get("CONDA_PREFIX"),
    ...pythonHomes(),
    `${Deno.env.get("HOME") ?? ""}/.local`,
    "/usr/local",
    "/usr",
  ];
  const packages = homes.flatMap((home) => home === undefined || home === "" ? [] : [`${home}/lib`])
    .flatMap((lib) =>
      entries(lib).filter((name) => name.startsWith("python3"))
        .flatMap((name) => [`${lib}/${name}/site-packages`, `${lib}/${name}/dist-packages`])
    );
  const conda = Deno.env.get("CONDA_PREFIX");
  return [
    ...(conda === undefined || conda === "" ? [] : [`${conda}/lib`]),
    ...packages.flatMap((folder) =>
      entries(`${folder}/nvidia`).map((name) => `${folder}/nvidia/${name}/lib`)
    ),
  ];
}

/** The folders above the `bin` of each python3 on the PATH, as it is named and as its links lead on. */
function pythonHomes(): string[] {
  const programs = (Deno.env.get("PATH") ?? "").split(":").filter((folder) => folder !== "")
    .map((folder) => `${folder}/python3`).filter(exists);
  return [
    ...new Set(programs.flatMap(linksFrom).map((path) => path.replace(/\/[^/]*\/[^/]*$/, ""))),
  ];
}

/** A path, and what its symbolic links lead to one after another. */
function linksFrom(path: string): string[] {
  const paths: string[] = [];
  for (let next = path; !paths.includes(next);) {
    paths.push(next);
    if (!Deno.lstatSync(next).isSymlink) break;
    const target = Deno.readLinkSync(next), folder = next.slice(0, next.lastIndexOf("/"));
    next = target.startsWith("/") ? target : `${folder}/${target}`;
  }
  return paths;
}

/** Names in a folder; none where it cannot be read. */
function entries(folder: string): string[] {
  try {
    return Array.from(Deno.readDirSync(folder), ({ name }) => name);
  } catch (error) {
    if (isAbsence(error)) return [];
    throw error;
  }
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (isAbsence(error)) return false;
    throw error;
  }
}

function isAbsence(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory ||
    error instanceof Deno.errors.PermissionDenied;
}
