// What cuBLASLt tells of descriptors: functions and numbers of cublasLt.h that only tests need.

/** As in `ffi/cublaslt.ts`. */
export const GETTER_SYMBOLS = {
  cublasLtMatmulDescGetAttribute: {
    parameters: [
      "u64", // cublasLtMatmulDesc_t matmulDesc
      "i32", // cublasLtMatmulDescAttributes_t attr
      "buffer", // void *buf
      "usize", // size_t sizeInBytes
      "buffer", // size_t *sizeWritten
    ],
    result: "i32",
  },
  cublasLtMatrixLayoutGetAttribute: {
    parameters: [
      "u64", // cublasLtMatrixLayout_t matLayout
      "i32", // cublasLtMatrixLayoutAttribute_t attr
      "buffer", // void *buf
      "usize", // size_t sizeInBytes
      "buffer", // size_t *sizeWritten
    ],
    result: "i32",
  },
  cublasLtMatmulPreferenceGetAttribute: {
    parameters: [
      "u64", // cublasLtMatmulPreference_t pref
      "i32", // cublasLtMatmulPreferenceAttributes_t attr
      "buffer", // void *buf
      "usize", // size_t sizeInBytes
      "buffer", // size_t *sizeWritten
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Attributes of cublasLt.h that the backend leaves as they are. */
export const GETTER_CONSTANTS = {
  CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: 0,
  CUBLASLT_MATMUL_DESC_SCALE_TYPE: 1,
  CUBLASLT_MATMUL_DESC_POINTER_MODE: 2,
  CUBLASLT_MATMUL_DESC_EPILOGUE: 7,
  CUBLASLT_POINTER_MODE_HOST: 0,
  CUBLASLT_EPILOGUE_DEFAULT: 1,
  CUBLAS_OP_N: 0,
  CUBLASLT_MATRIX_LAYOUT_TYPE: 0,
  CUBLASLT_MATRIX_LAYOUT_ORDER: 1,
  CUBLASLT_MATRIX_LAYOUT_ROWS: 2,
  CUBLASLT_MATRIX_LAYOUT_COLS: 3,
  CUBLASLT_MATRIX_LAYOUT_LD: 4,
  CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: 5,
  CUBLASLT_ORDER_COL: 0,
} as const;
