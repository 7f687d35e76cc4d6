// cuBLASLt's C symbols on the host: column-major matrices of f32 or bf16, products summed in f32, plainly.

#include <cstdlib>
#include <cstring>
#include <vector>

#include "simulator.h"

using namespace cuda_sim;

namespace {

enum : int { TYPE_F32 = 0, TYPE_F16 = 2, TYPE_BF16 = 14, COMPUTE_32F = 68 };
/** cublasStatus_t */
enum : int { BLAS_SUCCESS = 0, BLAS_INVALID_VALUE = 7, BLAS_EXECUTION_FAILED = 13, BLAS_NOT_SUPPORTED = 15 };

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
  size_t width() const { return type == TYPE_F32 ? 4 : 2; }
};

struct Description {
  int compute, scale, transposes_a = 0, transposes_b = 0;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

/** cublasLtMatmulHeuristicResult_t */
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

float element(const Layout &layout, const void *data, size_t index) {
  if (layout.type == TYPE_F32) return static_cast<const float *>(data)[index];
  return __builtin_bit_cast(float, uint32_t(static_cast<const uint16_t *>(data)[index]) << 16);
}

void store(const Layout &layout, void *data, size_t index, float value) {
  if (layout.type == TYPE_F32) {
    static_cast<float *>(data)[index] = value;
    return;
  }
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = value != value ? 0x7fc00000 : bits + 0x7fff + (bits >> 16 & 1);
  static_cast<uint16_t *>(data)[index] = uint16_t(rounded >> 16);
}

/** The matrix as rows of `depth`: op(A) by its rows, op(B) by its columns. Empty after an illegal access. */
std::vector<float> unpack(const Layout &layout, const void *data, bool is_along_columns) {
  std::vector<float> values(layout.rows * layout.columns);
  for (uint64_t c = 0; c < layout.columns; c++) {
    const char *column = static_cast<const char *>(data) + c * layout.stride * layout.width();
    if (!check_range("cublasLtMatmul", column, layout.rows * layout.width(), false)) return {};
    for (uint64_t r = 0; r < layout.rows; r++) {
      values[is_along_columns ? c * layout.rows + r : r * layout.columns + c] =
          element(layout, column, r);
    }
  }
  return values;
}

float dot(const float *a, const float *b, uint64_t depth) {
  constexpr int LANES = 16;
  float sums[LANES] = {};
  uint64_t k = 0;
  for (; k + LANES <= depth; k += LANES) {
    for (int i = 0; i < LANES; i++) sums[i] += a[k + i] * b[k + i];
  }
  float sum = 0;
  for (; k < depth; k++) sum += a[k] * b[k];
  for (float one : sums) sum += one;
  return sum;
}

struct Product {
  Description description;
  Layout a, b, c, d;
  const void *a_data, *b_data, *c_data;
  void *d_data;
  float alpha, beta;

  void run() const {
    const std::vector<float> left = unpack(a, a_data, description.transposes_a != 0);
    const std::vector<float> right = unpack(b, b_data, description.transposes_b == 0);
    const uint64_t depth = description.transposes_a ? a.rows : a.columns;
    if (failure() != SUCCESS) return;
    settle();
    for (uint64_t n = 0; n < d.columns; n++) {
      const char *addend = static_cast<const char *>(c_data) + n * c.stride * c.width();
      char *column = static_cast<char *>(d_data) + n * d.stride * d.width();
      if (beta != 0 && !check_range("cublasLtMatmul C", addend, c.rows * c.width(), false)) return;
      if (!check_range("cublasLtMatmul D", column, d.rows * d.width(), true)) return;
      note_unsettled(column, d.rows * d.width());
      for (uint64_t m = 0; m < d.rows; m++) {
        float value = alpha * dot(&left[m * depth], &right[n * depth], depth);
        if (beta != 0) value += beta * element(c, addend, m);
        store(d, column, m, value);
      }
    }
  }

  bool is_consistent() const {
    const uint64_t m = description.transposes_a ? a.columns : a.rows;
    const uint64_t k = description.transposes_a ? a.rows : a.columns;
    const uint64_t inner = description.transposes_b ? b.columns : b.rows;
    const uint64_t n = description.transposes_b ? b.rows : b.columns;
    for (const Layout &one : {a, b, c, d}) {
      if (one.type != TYPE_F32 && one.type != TYPE_BF16) return false;
      if (one.rows == 0 || one.columns == 0 || one.stride < int64_t(one.rows)) return false;
    }
    // Products of f32 have results of f32; those of bf16 may have either.
    return k == inner && d.rows == m && d.columns == n && c.rows == m && c.columns == n &&
           a.type == b.type && c.type == d.type && (a.type != TYPE_F32 || d.type == TYPE_F32) && description.compute == COMPUTE_32F &&
           description.scale == TYPE_F32;
  }
};

} // namespace

EXPORT int cublasLtCreate(void **handle) { return *handle = malloc(1), BLAS_SUCCESS; }
EXPORT int cublasLtDestroy(void *handle) { return free(handle), BLAS_SUCCESS; }
EXPORT size_t cublasLtGetVersion() { return 120400; }
EXPORT const char *cublasLtGetStatusString(int status) {
  const Lock lock;
  switch (status) {
  case BLAS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
  case BLAS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
  case BLAS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
  default: return "CUBLAS_STATUS_SUCCESS";
  }
}

EXPORT int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns,
                                      int64_t stride) {
  const Lock lock;
  *layout = new Layout{type, rows, columns, stride};
  return BLAS_SUCCESS;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout *layout) { return delete layout, BLAS_SUCCESS; }

EXPORT int cublasLtMatmulDescCreate(Description **description, int compute, int scale) {
  const Lock lock;
  *description = new Description{compute, scale};
  return BLAS_SUCCESS;
}
EXPORT int cublasLtMatmulDescDestroy(Description *description) {
  const Lock lock;
  return delete description, BLAS_SUCCESS;
}
EXPORT int cublasLtMatmulDescSetAttribute(Description *description, int attribute, const void *value,
                                          size_t bytes) {
  const Lock lock;
  if (bytes != 4 || (attribute != 3 && attribute != 4)) return BLAS_INVALID_VALUE;
  memcpy(attribute == 3 ? &description->transposes_a : &description->transposes_b, value, bytes);
  return BLAS_SUCCESS;
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference **preference) {
  const Lock lock;
  return *preference = new Preference, BLAS_SUCCESS;
}
EXPORT int cublasLtMatmulPreferenceDestroy(Preference *preference) {
  const Lock lock;
  return delete preference, BLAS_SUCCESS;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute,
                                                const void *value, size_t bytes) {
  const Lock lock;
  if (attribute == 1 && bytes == 8) memcpy(&preference->workspace, value, bytes);
  else if (attribute == 3 && bytes == 4) return BLAS_SUCCESS;
  else if (attribute >= 5 && attribute <= 8 && bytes == 4) {
    memcpy(&preference->alignment[attribute - 5], value, bytes);
  } else return BLAS_INVALID_VALUE;
  return BLAS_SUCCESS;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(void *, Description *description, Layout *a, Layout *b,
                                          Layout *c, Layout *d, Preference *preference, int wanted,
                                          Heuristic *results, int *found) {
  const Lock lock;
  const Product product{*description, *a, *b, *c, *d, nullptr, nullptr, nullptr, nullptr, 0, 0};
  *found = 0;
  if (wanted < 1) return BLAS_INVALID_VALUE;
  if (!product.is_consistent()) return BLAS_NOT_SUPPORTED;
  // What the algorithm was chosen for, so that using it for something else is seen.
  results[0] = {{a->rows, a->columns, b->rows, b->columns, uint64_t(d->stride),
                 preference->alignment[0] | uint64_t(preference->alignment[1]) << 32,
                 preference->alignment[2] | uint64_t(preference->alignment[3]) << 32,
                 preference->workspace},
                preference->workspace, BLAS_SUCCESS, 1, {}};
  *found = 1;
  return BLAS_SUCCESS;
}

EXPORT int cublasLtMatmul(void *, Description *description, const float *alpha, const void *a_data,
                          Layout *a, const void *b_data, Layout *b, const float *beta,
                          const void *c_data, Layout *c, void *d_data, Layout *d,
                          const uint64_t *algorithm, void *workspace, size_t workspace_bytes,
                          void *stream) {
  const Lock lock;
  const Product product{*description, *a,     *b,     *c,     *d,     a_data,
                        b_data,       c_data, d_data, *alpha, *beta};
  const uint64_t expected[5] = {a->rows, a->columns, b->rows, b->columns, uint64_t(d->stride)};
  if (!product.is_consistent() || algorithm == nullptr ||
      memcmp(algorithm, expected, sizeof expected) != 0) {
    return BLAS_INVALID_VALUE;
  }
  if (workspace_bytes > 0 && (!is_device(workspace) || reinterpret_cast<uintptr_t>(workspace) % 256 != 0)) {
    return BLAS_INVALID_VALUE;
  }
  if (workspace_bytes < algorithm[7]) return BLAS_INVALID_VALUE;
  const void *places[4] = {a_data, b_data, c_data, d_data};
  for (int i = 0; i < 4; i++) {
    const uint32_t alignment = uint32_t(algorithm[5 + i / 2] >> (i % 2 * 32));
    if (reinterpret_cast<uintptr_t>(places[i]) % alignment != 0) return BLAS_INVALID_VALUE;
  }
  return enqueue(stream, [product] { product.run(); }) == SUCCESS ? int(BLAS_SUCCESS)
                                                                  : int(BLAS_EXECUTION_FAILED);
}
