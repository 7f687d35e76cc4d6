// The linear layer: picks the product for each of its three directions. The products themselves are in gemm.c and, for
// the few rows of decoding, matvec.c.

#include "gemm.h"
#include "matvec.h"

TL_EXPORT void linear_forward(tl_context *ctx, float *out, const float *x, const void *weight, int weight_dtype, const float *addend, int n, int o, int i, int out_stride, int matmul_dtype) {
  if (n <= MATVEC_MAX_ROWS) {
    matvec_problem problem = {out, x, weight, addend, weight_dtype, n, o, i, out_stride, matmul_dtype == TL_BF16};
    tl_matvec(ctx, &problem);
    return;
  }
  gemm_problem problem = {
    .a = {x, TL_F32, i, 0},
    .b = {weight, weight_dtype, i, 0},
    .c = out, .init = addend, .c_stride = out_stride,
    .m = n, .n = o, .k = i,
    .bf16 = matmul_dtype == TL_BF16,
  };
  tl_gemm(ctx, &problem);
}

TL_EXPORT void linear_backward_input(tl_context *ctx, float *dx, const float *dout, const float *weight, int n, int o, int i, int matmul_dtype) {
  gemm_problem problem = {
    .a = {dout, TL_F32, o, 0},
    .b = {weight, TL_F32, i, 1},
    .c = dx, .c_stride = i,
    .m = n, .n = i, .k = o,
    .bf16 = matmul_dtype == TL_BF16,
  };
  tl_gemm(ctx, &problem);
}

TL_EXPORT void linear_backward_weight(tl_context *ctx, float *dweight, const float *dout, const float *x, int n, int o, int i, int matmul_dtype) {
  gemm_problem problem = {
    .a = {dout, TL_F32, o, 1},
    .b = {x, TL_F32, i, 1},
    .c = dweight, .init = dweight, .c_stride = i,
    .m = o, .n = i, .k = n,
    .bf16 = matmul_dtype == TL_BF16,
  };
  tl_gemm(ctx, &problem);
}
