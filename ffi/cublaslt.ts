// cuBLASLt as Deno FFI sees it: matrix products. Values and layouts of cublasLt.h are the same in CUDA 11, 12 and 13.

/** Symbols of libcublasLt, by their names in cublasLt.h. */
export const CUBLASLT_SYMBOLS = {
  cublasLtCreate: {
    parameters: [
      "buffer", // cublasLtHandle_t *lightHandle
    ],
    result: "i32",
  },
  cublasLtDestroy: {
    parameters: [
      "u64", // cublasLtHandle_t lightHandle
    ],
    result: "i32",
  },
  cublasLtGetVersion: {
    parameters: [],
    result: "usize",
  },
  // CUDA 11.4.2 and later.
  cublasLtGetStatusString: {
    optional: true,
    parameters: [
      "i32", // cublasStatus_t status
    ],
    result: "pointer", // const char *
  },
  cublasLtMatrixLayoutCreate: {
    parameters: [
      "buffer", // cublasLtMatrixLayout_t *matLayout
      "i32", // cudaDataType type
      "u64", // uint64_t rows
      "u64", // uint64_t cols
      "i64", // int64_t ld
    ],
    result: "i32",
  },
  cublasLtMatrixLayoutDestroy: {
    parameters: [
      "u64", // cublasLtMatrixLayout_t matLayout
    ],
    result: "i32",
  },
  cublasLtMatmulDescCreate: {
    parameters: [
      "buffer", // cublasLtMatmulDesc_t *matmulDesc
      "i32", // cublasComputeType_t computeType
      "i32", // cudaDataType_t scaleType
    ],
    result: "i32",
  },
  cublasLtMatmulDescDestroy: {
    parameters: [
      "u64", // cublasLtMatmulDesc_t matmulDesc
    ],
    result: "i32",
  },
  cublasLtMatmulDescSetAttribute: {
    parameters: [
      "u64", // cublasLtMatmulDesc_t matmulDesc
      "i32", // cublasLtMatmulDescAttributes_t attr
      "buffer", // const void *buf
      "usize", // size_t sizeInBytes
    ],
    result: "i32",
  },
  cublasLtMatmulPreferenceCreate: {
    parameters: [
      "buffer", // cublasLtMatmulPreference_t *pref
    ],
    result: "i32",
  },
  cublasLtMatmulPreferenceDestroy: {
    parameters: [
      "u64", // cublasLtMatmulPreference_t pref
    ],
    result: "i32",
  },
  cublasLtMatmulPreferenceSetAttribute: {
    parameters: [
      "u64", // cublasLtMatmulPreference_t pref
      "i32", // cublasLtMatmulPreferenceAttributes_t attr
      "buffer", // const void *buf
      "usize", // size_t sizeInBytes
    ],
    result: "i32",
  },
  cublasLtMatmulAlgoGetHeuristic: {
    parameters: [
      "u64", // cublasLtHandle_t lightHandle
      "u64", // cublasLtMatmulDesc_t operationDesc
      "u64", // cublasLtMatrixLayout_t Adesc
      "u64", // cublasLtMatrixLayout_t Bdesc
      "u64", // cublasLtMatrixLayout_t Cdesc
      "u64", // cublasLtMatrixLayout_t Ddesc
      "u64", // cublasLtMatmulPreference_t preference
      "i32", // int requestedAlgoCount
      "buffer", // cublasLtMatmulHeuristicResult_t heuristicResultsArray[]
      "buffer", // int *returnAlgoCount
    ],
    result: "i32",
  },
  cublasLtMatmul: {
    parameters: [
      "u64", // cublasLtHandle_t lightHandle
      "u64", // cublasLtMatmulDesc_t computeDesc
      "buffer", // const void *alpha
      "u64", // const void *A
      "u64", // cublasLtMatrixLayout_t Adesc
      "u64", // const void *B
      "u64", // cublasLtMatrixLayout_t Bdesc
      "buffer", // const void *beta
      "u64", // const void *C
      "u64", // cublasLtMatrixLayout_t Cdesc
      "u64", // void *D
      "u64", // cublasLtMatrixLayout_t Ddesc
      "buffer", // const cublasLtMatmulAlgo_t *algo
      "u64", // void *workspace
      "usize", // size_t workspaceSizeInBytes
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Constants of cublasLt.h, cublas_api.h and library_types.h. */
export const CUBLASLT = {
  CUDA_R_32F: 0,
  CUDA_R_16BF: 14,
  CUBLAS_COMPUTE_32F: 68,
  CUBLAS_OP_T: 1,
  CUBLASLT_MATMUL_DESC_TRANSA: 3,
  CUBLASLT_MATMUL_DESC_TRANSB: 4,
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: 1,
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: 3,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: 5,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: 8,
  CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE: 2,
} as const;

/** cublasLtMatmulHeuristicResult_t in bytes: its size, its `algo` at the start, and its `state`. */
export const HEURISTIC_RESULT = {
  byteLength: 96,
  algoBytes: 64,
  stateOffset: 72,
} as const;

/** Names of libcublasLt for dlopen, newest first; a name without a version may be newer than the driver. */
export const CUBLASLT_NAMES = [
  "libcublasLt.so.13",
  "libcublasLt.so.12",
  "libcublasLt.so.11",
] as const;
