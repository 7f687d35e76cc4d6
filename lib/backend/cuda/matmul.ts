// Matrix products of cuBLASLt. Descriptors and the algorithm that its heuristic recommends are made once for a shape and
// kept. Matrices are column-major here, as cuBLASLt has them: a row-major matrix is its transpose.

import { CUBLASLT, HEURISTIC_RESULT } from "../../../ffi/cublaslt.ts";
import { DeviceError } from "../../core/errors.ts";
import type { CudaDevice } from "./device.ts";
import { WORKSPACE } from "./footprint.ts";
import type { CudaStream } from "./stream.ts";

/** What makes two products alike: d (m, n) = op(a) (m, k) · op(b) (k, n) + beta · c, sums in f32. */
export interface ProductShape {
  /** Of a and b. */
  readonly input: "f32" | "bf16";
  /** Of c and d. */
  readonly output: "f32" | "bf16";
  readonly isATransposed: boolean;
  readonly isBTransposed: boolean;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Elements from one stored column to the next: of a, b, and both c and d. */
  readonly strideA: number;
  readonly strideB: number;
  readonly strideD: number;
}

/** Device addresses of one product. `c` may be `d`; it is not read where `beta` is 0. */
export interface ProductPlaces {
  readonly a: bigint;
  readonly b: bigint;
  readonly c: bigint;
  readonly d: bigint;
}

interface Plan {
  readonly description: bigint;
  readonly layoutA: bigint;
  readonly layoutB: bigint;
  readonly layoutD: bigint;
  readonly algorithm: Uint8Array<ArrayBuffer>;
}

const MAX_ALIGNMENT = 256n;
const ONE = Float32Array.of(1), ZERO = Float32Array.of(0);

type Blas = Pick<CudaDevice, "blas" | "checkBlas">;
type Order = Pick<CudaStream, "compute" | "inspect">;

/** cuBLASLt on one device. Disposing frees what was made for the shapes. */
export class Matmul implements Disposable {
  readonly #device: Blas;
  readonly #stream: Order;
  readonly #workspace: bigint;
  readonly #handle: bigint;
  readonly #plans = new Map<string, Plan>();
  readonly #place = new BigUint64Array(1);

  /** `workspace` is the device address of {@linkcode WORKSPACE}. */
  constructor(device: Blas, stream: Order, workspace: bigint) {
    this.#device = device;
    this.#stream = stream;
    this.#workspace = workspace;
    device.checkBlas("cublasLtCreate", device.blas.cublasLtCreate(this.#place));
    this.#handle = this.#place[0];
  }

  /**
   * Enqueues one product; adds c where `isAdding`.
   * @throws {DeviceError} when cuBLASLt has no algorithm for the shape or refuses it.
   */
  run(shape: ProductShape, { a, b, c, d }: ProductPlaces, isAdding: boolean): void {
    const alignments = [a, b, c, d].map(alignmentOf);
    const plan = this.#planFor(shape, alignments);
    const status = this.#device.blas.cublasLtMatmul(
      this.#handle,
      plan.description,
      ONE,
      a,
      plan.layoutA,
      b,
      plan.layoutB,
      isAdding ? ONE : ZERO,
      c,
      plan.layoutD,
      d,
      plan.layoutD,
      plan.algorithm,
      this.#workspace,
      BigInt(WORKSPACE.byteLength),
      this.#stream.compute,
    );
    if (status !== 0) this.#device.checkBlas(`cublasLtMatmul of ${textOf(shape)}`, status);
    this.#stream.inspect("cublasLtMatmul");
  }

  [Symbol.dispose](): void {
    const { blas } = this.#device;
    for (const { description, layoutA, layoutB, layoutD } of this.#plans.values()) {
      for (const layout of [layoutA, layoutB, layoutD]) blas.cublasLtMatrixLayoutDestroy(layout);
      blas.cublasLtMatmulDescDestroy(description);
    }
    blas.cublasLtDestroy(this.#handle);
  }

  #planFor(shape: ProductShape, alignments: readonly number[]): Plan {
    const key = `${textOf(shape)} ${shape.strideA} ${shape.strideB} ${shape.strideD} ${alignments}`;
    const known = this.#plans.get(key);
    if (known !== undefined) return known;
    const made = this.#makePlan(shape, alignments);
    this.#plans.set(key, made);
    return made;
  }

  #makePlan(shape: ProductShape, alignments: readonly number[]): Plan {
    const { blas, checkBlas } = this.#device;
    const { m, n, k, isATransposed, isBTransposed } = shape;
    const created = blas.cublasLtMatmulDescCreate(
      this.#place,
      CUBLASLT.CUBLAS_COMPUTE_32F,
      CUBLASLT.CUDA_R_32F,
    );
    checkBlas("cublasLtMatmulDescCreate", created);
    const description = this.#place[0];
    if (isATransposed) this.#transpose(description, CUBLASLT.CUBLASLT_MATMUL_DESC_TRANSA);
    if (isBTransposed) this.#transpose(description, CUBLASLT.CUBLASLT_MATMUL_DESC_TRANSB);
    const [rowsA, columnsA] = isATransposed ? [k, m] : [m, k];
    const [rowsB, columnsB] = isBTransposed ? [n, k] : [k, n];
    const layoutA = this.#layout(shape.input, rowsA, columnsA, shape.strideA);
    const layoutB = this.#layout(shape.input, rowsB, columnsB, shape.strideB);
    const layoutD = this.#layout(shape.output, m, n, shape.strideD);
    const layouts = { description, layoutA, layoutB, layoutD };
    return { ...layouts, algorithm: this.#choose(shape, layouts, alignments) };
  }

  #transpose(description: bigint, attribute: number): void {
    const { blas, checkBlas } = this.#device;
    const value = Int32Array.of(CUBLASLT.CUBLAS_OP_T);
    const status = blas.cublasLtMatmulDescSetAttribute(description, attribute, value, 4n);
    checkBlas("cublasLtMatmulDescSetAttribute", status);
  }

  #layout(dtype: "f32" | "bf16", rows: number, columns: number, stride: number): bigint {
    const { blas, checkBlas } = this.#device;
    const type = dtype === "f32" ? CUBLASLT.CUDA_R_32F : CUBLASLT.CUDA_R_16BF;
    const status = blas.cublasLtMatrixLayoutCreate(
      this.#place,
      type,
      BigInt(rows),
      BigInt(columns),
      BigInt(stride),
    );
    checkBlas("cublasLtMatrixLayoutCreate", status);
    return this.#place[0];
  }

  #choose(
    shape: ProductShape,
    { description, layoutA, layoutB, layoutD }: Omit<Plan, "algorithm">,
    alignments: readonly number[],
  ): Uint8Array<ArrayBuffer> {
    const { blas, checkBlas } = this.#device;
    const preference = this.#preference(alignments);
    const result = new Uint8Array(HEURISTIC_RESULT.byteLength), found = new Int32Array(1);
    const status = blas.cublasLtMatmulAlgoGetHeuristic(
      this.#handle,
      description,
      layoutA,
      layoutB,
      layoutD,
      layoutD,
      preference,
      1,
      result,
      found,
    );
    blas.cublasLtMatmulPreferenceDestroy(preference);
    checkBlas(`cublasLtMatmulAlgoGetHeuristic of ${textOf(shape)}`, status);
    const state = new DataView(result.buffer).getInt32(HEURISTIC_RESULT.stateOffset, true);
    if (found[0] === 0 || state !== 0) {
      throw new DeviceError(`Cannot multiply on cuda: cuBLASLt has no way for ${textOf(shape)}`);
    }
    return result.slice(0, HEURISTIC_RESULT.algoBytes);
  }

  #preference(alignments: readonly number[]): bigint {
    const { blas, checkBlas } = this.#device;
    checkBlas(
      "cublasLtMatmulPreferenceCreate",
      blas.cublasLtMatmulPreferenceCreate(this.#place),
    );
    const preference = this.#place[0];
    const set = (
      attribute: number,
      value: Uint32Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>,
    ) =>
      checkBlas(
        "cublasLtMatmulPreferenceSetAttribute",
        blas.cublasLtMatmulPreferenceSetAttribute(
          preference,
          attribute,
          value,
          BigInt(value.byteLength),
        ),
      );
    set(
      CUBLASLT.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      BigUint64Array.of(BigInt(WORKSPACE.byteLength)),
    );
    // Parts of a sum are added in f32 and in a fixed order.
    const scheme = Uint32Array.of(CUBLASLT.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    set(CUBLASLT.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, scheme);
    for (const [i, alignment] of alignments.entries()) {
      set(CUBLASLT.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i, Uint32Array.of(alignment));
    }
    return preference;
  }
}

/** The largest power of two that divides an address, as far as it matters. */
function alignmentOf(address: bigint): number {
  const lowest = address & -address;
  return Number(lowest === 0n || lowest > MAX_ALIGNMENT ? MAX_ALIGNMENT : lowest);
}

function textOf({ input, output, isATransposed, isBTransposed, m, n, k }: ProductShape): string {
  const a = isATransposed ? "aᵀ" : "a", b = isBTransposed ? "bᵀ" : "b";
  return `${a}·${b} of ${m} x ${k} by ${k} x ${n}, ${input} into ${output}`;
}
