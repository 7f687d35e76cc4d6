// The C kernels' interface: what lib/backend/cpu calls, once per operation, in the WASM build and in the native one.
// Formulas stand in lib/core/ops.ts. Activations are f32; weights have a dtype code. Every entry splits its work into
// ranges over the context's threads and returns when all are done; results do not depend on the number of threads.

#ifndef TINYLLAMA_KERNELS_H
#define TINYLLAMA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __wasm__
#define TL_EXPORT __attribute__((visibility("default"), used))
#elif defined(_WIN32)
#define TL_EXPORT __declspec(dllexport)
#else
#define TL_EXPORT __attribute__((visibility("default")))
#endif

// Element types, the numbers known to lib/backend/cpu/kernels.ts.
enum tl_dtype { TL_F32 = 0, TL_BF16 = 1, TL_F16 = 2, TL_Q8_0 = 3, TL_Q4_0 = 4 };

// Threads and scratch memory of one backend. Opaque to the caller.
typedef struct tl_context tl_context;

// Bits: 0 AVX2+FMA+F16C, 1 AVX-512 (F BW VL DQ), 2 AVX-512 VNNI, 3 AVX-512 BF16, 4 NEON dot products, 5 NEON bf16.
TL_EXPORT int tl_cpu_features(void);
// Bytes the caller reserves (64-byte aligned, zeroed) for a context of this many threads, scratch included.
TL_EXPORT size_t tl_context_bytes(int threads);
// Native: starts threads - 1 threads. WASM: starts none; worker i in 1 .. threads-1 then enters tl_worker_run.
// Returns 0, or -1 when a thread could not be started.
TL_EXPORT int tl_context_open(tl_context *ctx, int threads);
// Serves ranges until tl_context_close. Only for WASM workers.
TL_EXPORT void tl_worker_run(tl_context *ctx, int worker);
// Ends all workers and, in the native build, joins them.
TL_EXPORT void tl_context_close(tl_context *ctx);

TL_EXPORT void embedding_forward(tl_context *, float *out, const int *tokens, const void *table, int table_dtype, int n, int c);
TL_EXPORT void embedding_backward(tl_context *, float *dtable, const float *dout, const int *tokens, int n, int c, int v);

TL_EXPORT void rmsnorm_forward(tl_context *, float *out, float *rstd, const float *x, const float *weight, int n, int c, float eps);
TL_EXPORT void rmsnorm_backward(tl_context *, float *dx, float *dweight, const float *dout, const float *x, const float *weight, const float *rstd, int n, int c);

// matmul_dtype: what both operands are rounded to (TL_F32 or TL_BF16). out and addend have rows of out_stride elements, of which
// this call covers o. addend may be null or out.
TL_EXPORT void linear_forward(tl_context *, float *out, const float *x, const void *weight, int weight_dtype, const float *addend, int n, int o, int i, int out_stride, int matmul_dtype);
TL_EXPORT void linear_backward_input(tl_context *, float *dx, const float *dout, const float *weight, int n, int o, int i, int matmul_dtype);
TL_EXPORT void linear_backward_weight(tl_context *, float *dweight, const float *dout, const float *x, int n, int o, int i, int matmul_dtype);

// Rotates the first `rotated` of `heads` heads of each of n rows; inverse != 0 rotates back.
TL_EXPORT void rope(tl_context *, float *qkv, const float *table, const int *positions, int n, int rotated, int heads, int d, int inverse);

TL_EXPORT void attention_forward(tl_context *, float *out, float *lse, const float *qkv, int b, int t, int h, int k, int d);
TL_EXPORT void attention_backward(tl_context *, float *dqkv, const float *dout, const float *qkv, const float *out, const float *lse, int b, int t, int h, int k, int d);

TL_EXPORT void kv_cache_append(tl_context *, float *keys, float *values, const float *qkv, const int *positions, int b, int t, int h, int k, int d, int s);
TL_EXPORT void attention_cached(tl_context *, float *out, const float *qkv, const float *keys, const float *values, const int *positions, int b, int t, int h, int k, int d, int s);

TL_EXPORT void swiglu_forward(tl_context *, float *out, const float *gate_up, int n, int f);
TL_EXPORT void swiglu_backward(tl_context *, float *dgate_up, const float *dout, const float *gate_up, int n, int f);

TL_EXPORT void cross_entropy_forward(tl_context *, float *losses, const float *logits, const int *targets, int n, int v);
TL_EXPORT void cross_entropy_forward_backward(tl_context *, float *losses, float *logits, const int *targets, int n, int v, float scale);

TL_EXPORT void reduce_sum(tl_context *, float *out, const float *x, int count);
TL_EXPORT void reduce_sum_of_squares(tl_context *, float *out, const float *x, int count);
TL_EXPORT void reduce_clip_scale(tl_context *, float *out, const float *squares, int count, const float *loss, float max_norm);

TL_EXPORT void adamw_update(tl_context *, float *param, const float *grad, float *m, float *v, const float *clip, const float *schedule, int count, float beta1, float beta2, float epsilon, float weight_decay);

TL_EXPORT void sample_token(tl_context *, int *tokens, int *positions, float *log_probs, float *logits, int *seen, const int *rng, int b, int v, float temperature, int top_k, float top_p, float min_p, float repetition_penalty);

TL_EXPORT void cast_elements(tl_context *, void *dst, int dst_dtype, const void *src, int src_dtype, int count);
TL_EXPORT void quantize_elements(tl_context *, void *dst, int dst_dtype, const void *src, int src_dtype, int count);
TL_EXPORT void fill_words(tl_context *, uint32_t *dst, uint32_t bits, int count);
TL_EXPORT void copy_bytes(tl_context *, void *dst, const void *src, size_t count);

#endif
