// The products' descriptors in NVIDIA's own libcublasLt, which makes them without a card: what the backend sets is read back
// where it would ask for an algorithm. Looks in TINYLLAMA_CUDA_LIBRARIES and where the system looks.

import assert from "node:assert/strict";
import {
  CUBLASLT,
  CUBLASLT_NAMES,
  CUBLASLT_SYMBOLS,
  HEURISTIC_RESULT,
} from "../../ffi/cublaslt.ts";
import { openLibrary } from "../../ffi/library.ts";
import type { CudaDevice } from "../../lib/backend/cuda/device.ts";
import { WORKSPACE } from "../../lib/backend/cuda/footprint.ts";
import { Matmul, type ProductShape } from "../../lib/backend/cuda/matmul.ts";
import { GETTER_CONSTANTS as GET, GETTER_SYMBOLS } from "./cublaslt_getters.ts";

const FOLDERS = (Deno.env.get("TINYLLAMA_CUDA_LIBRARIES") ?? "").split(":");
const CANDIDATES = [
  ...FOLDERS.filter((folder) => folder !== "")
    .flatMap((folder) => CUBLASLT_NAMES.map((name) => `${folder}/${name}`)),
  ...CUBLASLT_NAMES,
];
const SYMBOLS = { ...CUBLASLT_SYMBOLS, ...GETTER_SYMBOLS };
type Library = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** Column-major, as the backend makes them of a forward product and of the two backward. */
const SHAPES: readonly ProductShape[] = [
  {
    ...{ input: "bf16", output: "bf16", isATransposed: true, isBTransposed: false },
    ...{ m: 2560, n: 100, k: 2048, strideA: 2048, strideB: 2048, strideD: 4096 },
  },
  {
    ...{ input: "f32", output: "f32", isATransposed: false, isBTransposed: false },
    ...{ m: 7, n: 9, k: 11, strideA: 8, strideB: 12, strideD: 13 },
  },
  {
    ...{ input: "bf16", output: "f32", isATransposed: false, isBTransposed: true },
    ...{ m: 2048, n: 5632, k: 17, strideA: 2048, strideB: 5632, strideD: 2048 },
  },
];
const PLACES = {
  a: 0x7000_0000_0100n,
  b: 0x7000_0000_0010n,
  c: 0x7000_0000_0008n,
  d: 0x7000_0000_0002n,
};
const ALIGNMENTS = [256, 16, 8, 2];
const STREAM = 0x1234n, SPACE = 0x7100_0000_0000n;

/** One of the library's three getters: a number of 4 or 8 bytes. */
type Getter = Library["cublasLtMatrixLayoutGetAttribute"];

function numberOf(get: Getter, handle: bigint, attribute: number, size: 4 | 8): number {
  const bytes = new DataView(new ArrayBuffer(8)), written = new BigUint64Array(1);
  assert.equal(get(handle, attribute, bytes, BigInt(size), written), 0, `attribute ${attribute}`);
  assert.equal(written[0], BigInt(size));
  return size === 4 ? bytes.getInt32(0, true) : Number(bytes.getBigInt64(0, true));
}

function checkDescription(library: Library, handle: bigint, shape: ProductShape): void {
  const get = (attribute: number) =>
    numberOf(library.cublasLtMatmulDescGetAttribute, handle, attribute, 4);
  const operation = (is: boolean) => is ? CUBLASLT.CUBLAS_OP_T : GET.CUBLAS_OP_N;
  assert.equal(get(GET.CUBLASLT_MATMUL_DESC_COMPUTE_TYPE), CUBLASLT.CUBLAS_COMPUTE_32F);
  assert.equal(get(GET.CUBLASLT_MATMUL_DESC_SCALE_TYPE), CUBLASLT.CUDA_R_32F);
  assert.equal(get(GET.CUBLASLT_MATMUL_DESC_POINTER_MODE), GET.CUBLASLT_POINTER_MODE_HOST);
  assert.equal(get(GET.CUBLASLT_MATMUL_DESC_EPILOGUE), GET.CUBLASLT_EPILOGUE_DEFAULT);
  assert.equal(get(CUBLASLT.CUBLASLT_MATMUL_DESC_TRANSA), operation(shape.isATransposed));
  assert.equal(get(CUBLASLT.CUBLASLT_MATMUL_DESC_TRANSB), operation(shape.isBTransposed));
}

function checkLayout(
  library: Library,
  handle: bigint,
  dtype: "f32" | "bf16",
  [rows, columns]: readonly [number, number],
  stride: number,
): void {
  const get = (attribute: number, size: 4 | 8) =>
    numberOf(library.cublasLtMatrixLayoutGetAttribute, handle, attribute, size);
  const type = dtype === "f32" ? CUBLASLT.CUDA_R_32F : CUBLASLT.CUDA_R_16BF;
  assert.equal(get(GET.CUBLASLT_MATRIX_LAYOUT_TYPE, 4), type);
  assert.equal(get(GET.CUBLASLT_MATRIX_LAYOUT_ORDER, 4), GET.CUBLASLT_ORDER_COL);
  assert.equal(get(GET.CUBLASLT_MATRIX_LAYOUT_ROWS, 8), rows);
  assert.equal(get(GET.CUBLASLT_MATRIX_LAYOUT_COLS, 8), columns);
  assert.equal(get(GET.CUBLASLT_MATRIX_LAYOUT_LD, 8), stride);
  assert.equal(get(GET.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 4), 1);
}

function checkPreference(library: Library, handle: bigint): void {
  const get = (attribute: number, size: 4 | 8) =>
    numberOf(library.cublasLtMatmulPreferenceGetAttribute, handle, attribute, size);
  const bytes = get(CUBLASLT.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 8);
  assert.equal(bytes, WORKSPACE.byteLength);
  const scheme = get(CUBLASLT.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 4);
  assert.equal(scheme, CUBLASLT.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  const found = ALIGNMENTS.map((_, i) =>
    get(CUBLASLT.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i, 4)
  );
  assert.deepEqual(found, ALIGNMENTS);
}

/** Bytes of an argument that the library would read or write. */
function bytesOf(place: AllowSharedBufferSource | null): Uint8Array {
  assert.ok(place !== null && ArrayBuffer.isView(place));
  return new Uint8Array(place.buffer, place.byteOffset, place.byteLength);
}

/** The library, but for what needs a card: there are checks instead, for products of `shape`. */
function checked(library: Library, shape: ProductShape): Pick<CudaDevice, "blas" | "checkBlas"> {
  const { m, n, k, input, output, isATransposed, isBTransposed } = shape;
  const blas: CudaDevice["blas"] = {
    ...library,
    cublasLtCreate: () => 0,
    cublasLtDestroy: () => 0,
    cublasLtMatmulAlgoGetHeuristic(_, description, a, b, c, d, preference, wanted, results, found) {
      checkDescription(library, BigInt(description), shape);
      const [layoutA, layoutB, layoutC, layoutD] = [a, b, c, d].map(BigInt);
      checkLayout(library, layoutA, input, isATransposed ? [k, m] : [m, k], shape.strideA);
      checkLayout(library, layoutB, input, isBTransposed ? [n, k] : [k, n], shape.strideB);
      checkLayout(library, layoutD, output, [m, n], shape.strideD);
      assert.equal(layoutC, layoutD);
      checkPreference(library, BigInt(preference));
      assert.equal(bytesOf(results).length, wanted * HEURISTIC_RESULT.byteLength);
      bytesOf(results).fill(7, 0, HEURISTIC_RESULT.algoBytes);
      bytesOf(found)[0] = 1;
      return 0;
    },
    cublasLtMatmul(...[, , alpha, a, , b, , beta, c, , d, , algorithm, space, spaceBytes, stream]) {
      assert.deepEqual([a, b, c, d], Object.values(PLACES));
      assert.deepEqual(bytesOf(alpha), bytesOf(Float32Array.of(1)));
      assert.deepEqual(bytesOf(beta), bytesOf(Float32Array.of(1)));
      assert.deepEqual(bytesOf(algorithm), new Uint8Array(HEURISTIC_RESULT.algoBytes).fill(7));
      assert.deepEqual([space, spaceBytes, stream], [SPACE, BigInt(WORKSPACE.byteLength), STREAM]);
      return 0;
    },
  };
  return { blas, checkBlas: (call, status) => assert.equal(status, 0, call) };
}

const opened = openLibrary(CANDIDATES, SYMBOLS);
if (opened.kind === "opened") opened.library.close();
const where = opened.kind === "opened" ? opened.path : "skipped: there is no libcublasLt";

Deno.test({
  name: `cuBLASLt has the products as the backend means them (${where})`,
  ignore: opened.kind === "missing",
  fn() {
    using closing = new DisposableStack();
    const again = openLibrary(CANDIDATES, SYMBOLS);
    assert.ok(again.kind === "opened");
    closing.defer(() => again.library.close());
    const { symbols } = again.library;
    for (const shape of SHAPES) {
      const stream = { compute: STREAM, inspect() {} };
      using matmul = new Matmul(checked(symbols, shape), stream, SPACE);
      for (let round = 0; round < 2; round++) matmul.run(shape, PLACES, true);
    }
  },
});
