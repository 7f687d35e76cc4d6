// The symbol tables of ffi/ against NVIDIA's own headers, where they are: CUDA_HOME, /usr/local/cuda, and the folders that
// TINYLLAMA_CUDA_INCLUDE names (the headers come with the toolkit, and in Python's nvidia wheels).

import assert from "node:assert/strict";
import { CUBLASLT, CUBLASLT_SYMBOLS, HEURISTIC_RESULT } from "../../ffi/cublaslt.ts";
import { CUDA, CUDA_SYMBOLS, LAUNCH_ATTRIBUTE, LAUNCH_CONFIG } from "../../ffi/cuda.ts";
import { CUDART, CUDART_SYMBOLS } from "../../ffi/cudart.ts";
import { GETTER_CONSTANTS, GETTER_SYMBOLS } from "./cublaslt_getters.ts";
import { assertionsOf, findHeader, refusalOf, type SymbolTable, valuesOf } from "./headers.ts";

/** A table and the file that it stands in. */
function tableIn(path: string, symbols: Deno.ForeignLibraryInterface): SymbolTable {
  return { symbols, path: new URL(path, import.meta.url) };
}

interface Library {
  readonly header: string;
  /** The header that has the number of the version, and what it is called there. */
  readonly version: readonly [file: string, macro: string];
  readonly tables: readonly SymbolTable[];
  readonly constants: Readonly<Record<string, number>>;
  /** C++ beside what the table and the constants say. */
  readonly more: readonly string[];
}

const { byteLength, algoBytes, stateOffset } = HEURISTIC_RESULT;

const LIBRARIES: readonly Library[] = [
  {
    header: "cuda.h",
    version: ["cuda.h", "CUDA_VERSION"],
    tables: [tableIn("../../ffi/cuda.ts", CUDA_SYMBOLS)],
    constants: CUDA,
    more: launchLayout(),
  },
  {
    header: "cuda_runtime_api.h",
    version: ["cuda_runtime_api.h", "CUDART_VERSION"],
    tables: [tableIn("../../ffi/cudart.ts", CUDART_SYMBOLS)],
    constants: CUDART,
    more: [],
  },
  {
    header: "cublasLt.h",
    version: ["cublas_api.h", "CUBLAS_VER_MAJOR"],
    tables: [
      tableIn("../../ffi/cublaslt.ts", CUBLASLT_SYMBOLS),
      tableIn("./cublaslt_getters.ts", GETTER_SYMBOLS),
    ],
    constants: { ...CUBLASLT, ...GETTER_CONSTANTS },
    more: [
      `static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == ${byteLength}, "size");`,
      `static_assert(sizeof(cublasLtMatmulAlgo_t) == ${algoBytes}, "algo");`,
      `static_assert(offsetof(cublasLtMatmulHeuristicResult_t, algo) == 0, "algo");`,
      `static_assert(offsetof(cublasLtMatmulHeuristicResult_t, state) == ${stateOffset}, "state");`,
      `static_assert(CUBLAS_STATUS_SUCCESS == 0, "success");`,
    ],
  },
];

for (const { header, version: [file, macro], tables, constants, more } of LIBRARIES) {
  const found = findHeader(header, file, macro);
  const where = found.kind === "found"
    ? `, version ${found.version}`
    : ` (skipped: ${found.reason})`;
  Deno.test({
    name: `symbols and constants are those of ${header}${where}`,
    ignore: found.kind === "missing",
    fn() {
      const folders = found.kind === "found" ? found.folders : [];
      const lines = [...tables.flatMap(assertionsOf), ...valuesOf(constants), ...more];
      assert.equal(refusalOf(header, lines, folders), null);
    },
  });
}

/** C++ that holds LAUNCH_CONFIG and LAUNCH_ATTRIBUTE to the structures. */
function launchLayout(): string[] {
  const config = "CUlaunchConfig", attribute = "CUlaunchAttribute";
  const extents = ["gridDim", "blockDim"].flatMap((one) =>
    ["X", "Y", "Z"].map((axis) => one + axis)
  );
  const offsets: readonly (readonly [type: string, member: string, offset: number])[] = [
    ...[...extents, "sharedMemBytes"].map((member, i) => [config, member, 4 * i] as const),
    [config, "hStream", LAUNCH_CONFIG.streamOffset],
    [config, "attrs", LAUNCH_CONFIG.attributesOffset],
    [config, "numAttrs", LAUNCH_CONFIG.countOffset],
    [attribute, "id", 0],
    [attribute, "value", LAUNCH_ATTRIBUTE.valueOffset],
  ];
  const allowed = "programmaticStreamSerializationAllowed";
  return [
    `static_assert(sizeof(${config}) == ${LAUNCH_CONFIG.byteLength}, "${config}");`,
    `static_assert(sizeof(${attribute}) == ${LAUNCH_ATTRIBUTE.byteLength}, "${attribute}");`,
    `static_assert(sizeof(CUlaunchAttributeID) == 4, "id");`,
    `static_assert(std::is_same_v<decltype(CUlaunchAttributeValue::${allowed}), int>, "${allowed}");`,
    `static_assert(offsetof(CUlaunchAttributeValue, ${allowed}) == 0, "${allowed}");`,
    ...offsets.map(([type, member, offset]) =>
      `static_assert(offsetof(${type}, ${member}) == ${offset}, "${type}.${member}");`
    ),
  ];
}

const driver = findHeader("cuda.h", "cuda.h", "CUDA_VERSION");

Deno.test({
  name: `a table that differs from cuda.h is refused${
    driver.kind === "found" ? "" : ` (skipped: ${driver.reason})`
  }`,
  ignore: driver.kind === "missing",
  fn() {
    const folders = driver.kind === "found" ? driver.folders : [], [{ path }] = LIBRARIES[0].tables;
    const refusal = (symbols: Deno.ForeignLibraryInterface) =>
      refusalOf("cuda.h", assertionsOf({ symbols, path }), folders) ?? "";
    const { cuInit, cuFuncSetAttribute } = CUDA_SYMBOLS;
    assert.equal(refusal({ cuInit }), "");
    assert.match(refusal({ cuInit: { ...cuInit, parameters: ["i32"] } }), /cuInit: kinds/);
    assert.match(refusal({ cuInit: { ...cuInit, result: "usize" } }), /cuInit: result/);
    const other = { cuInit: { ...cuInit, name: "cuMemAlloc" } };
    assert.match(refusal(other), /cuMemAlloc has another name/);
    assert.match(
      refusal({ cuFuncSetAttribute, cuInit: { ...cuInit, name: "cuDriverGetVersion" } }),
      /cuInit: C types/,
    );
    assert.match(
      refusalOf("cuda.h", valuesOf({ CUDA_ERROR_NOT_READY: 601 }), folders) ?? "",
      /NOT_READY/,
    );
  },
});
