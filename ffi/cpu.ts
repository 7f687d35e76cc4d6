// The native CPU library as Deno FFI sees it: one line per function of kernels/c/kernels.h. Addresses are u64, which
// costs no pointer object. The keys are also the exports wanted of the WASM modules.

/** Symbols of libtinyllama; parameters in the order of kernels.h. */
export const CPU_SYMBOLS = {
  tl_cpu_features: {
    parameters: [],
    result: "i32",
  },
  tl_context_bytes: {
    parameters: [
      "i32", // int threads
    ],
    result: "usize",
  },
  tl_context_open: {
    parameters: [
      "u64", // tl_context *ctx
      "i32", // int threads
    ],
    result: "i32",
  },
  tl_worker_run: {
    parameters: [
      "u64", // tl_context *ctx
      "i32", // int worker
    ],
    result: "void",
  },
  tl_context_close: {
    parameters: [
      "u64", // tl_context *ctx
    ],
    result: "void",
  },
  embedding_forward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const int *tokens
      "u64", // const void *table
      "i32", // int table_dtype
      "i32", // int n
      "i32", // int c
    ],
    result: "void",
  },
  embedding_backward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *dtable
      "u64", // const float *dout
      "u64", // const int *tokens
      "i32", // int n
      "i32", // int c
      "i32", // int v
    ],
    result: "void",
  },
  rmsnorm_forward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // float *rstd
      "u64", // const float *x
      "u64", // const float *weight
      "i32", // int n
      "i32", // int c
      "f32", // float eps
    ],
    result: "void",
  },
  rmsnorm_backward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *dx
      "u64", // float *dweight
      "u64", // const float *dout
      "u64", // const float *x
      "u64", // const float *weight
      "u64", // const float *rstd
      "i32", // int n
      "i32", // int c
    ],
    result: "void",
  },
  linear_forward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const float *x
      "u64", // const void *weight
      "i32", // int weight_dtype
      "u64", // const float *addend
      "i32", // int n
      "i32", // int o
      "i32", // int i
      "i32", // int out_stride
      "i32", // int matmul_dtype
    ],
    result: "void",
  },
  linear_backward_input: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *dx
      "u64", // const float *dout
      "u64", // const float *weight
      "i32", // int n
      "i32", // int o
      "i32", // int i
      "i32", // int matmul_dtype
    ],
    result: "void",
  },
  linear_backward_weight: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *dweight
      "u64", // const float *dout
      "u64", // const float *x
      "i32", // int n
      "i32", // int o
      "i32", // int i
      "i32", // int matmul_dtype
    ],
    result: "void",
  },
  rope: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *qkv
      "u64", // const float *table
      "u64", // const int *positions
      "i32", // int n
      "i32", // int rotated
      "i32", // int heads
      "i32", // int d
      "i32", // int inverse
    ],
    result: "void",
  },
  attention_forward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // float *lse
      "u64", // const float *qkv
      "i32", // int b
      "i32", // int t
      "i32", // int h
      "i32", // int k
      "i32", // int d
    ],
    result: "void",
  },
  attention_backward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *dqkv
      "u64", // const float *dout
      "u64", // const float *qkv
      "u64", // const float *out
      "u64", // const float *lse
      "i32", // int b
      "i32", // int t
      "i32", // int h
      "i32", // int k
      "i32", // int d
    ],
    result: "void",
  },
  kv_cache_append: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *keys
      "u64", // float *values
      "u64", // const float *qkv
      "u64", // const int *positions
      "i32", // int b
      "i32", // int t
      "i32", // int h
      "i32", // int k
      "i32", // int d
      "i32", // int s
    ],
    result: "void",
  },
  attention_cached: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const float *qkv
      "u64", // const float *keys
      "u64", // const float *values
      "u64", // const int *positions
      "i32", // int b
      "i32", // int t
      "i32", // int h
      "i32", // int k
      "i32", // int d
      "i32", // int s
    ],
    result: "void",
  },
  swiglu_forward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const float *gate_up
      "i32", // int n
      "i32", // int f
    ],
    result: "void",
  },
  swiglu_backward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *dgate_up
      "u64", // const float *dout
      "u64", // const float *gate_up
      "i32", // int n
      "i32", // int f
    ],
    result: "void",
  },
  cross_entropy_forward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *losses
      "u64", // const float *logits
      "u64", // const int *targets
      "i32", // int n
      "i32", // int v
    ],
    result: "void",
  },
  cross_entropy_forward_backward: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *losses
      "u64", // float *logits
      "u64", // const int *targets
      "i32", // int n
      "i32", // int v
      "f32", // float scale
    ],
    result: "void",
  },
  reduce_sum: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const float *x
      "i32", // int count
    ],
    result: "void",
  },
  reduce_sum_of_squares: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const float *x
      "i32", // int count
    ],
    result: "void",
  },
  reduce_clip_scale: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *out
      "u64", // const float *squares
      "i32", // int count
      "u64", // const float *loss
      "f32", // float max_norm
    ],
    result: "void",
  },
  adamw_update: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // float *param
      "u64", // const float *grad
      "u64", // float *m
      "u64", // float *v
      "u64", // const float *clip
      "u64", // const float *schedule
      "i32", // int count
      "f32", // float beta1
      "f32", // float beta2
      "f32", // float epsilon
      "f32", // float weight_decay
    ],
    result: "void",
  },
  sample_token: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // int *tokens
      "u64", // int *positions
      "u64", // float *log_probs
      "u64", // float *logits
      "u64", // int *seen
      "u64", // const int *rng
      "i32", // int b
      "i32", // int v
      "f32", // float temperature
      "i32", // int top_k
      "f32", // float top_p
      "f32", // float min_p
      "f32", // float repetition_penalty
    ],
    result: "void",
  },
  cast_elements: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // void *dst
      "i32", // int dst_dtype
      "u64", // const void *src
      "i32", // int src_dtype
      "i32", // int count
    ],
    result: "void",
  },
  quantize_elements: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // void *dst
      "i32", // int dst_dtype
      "u64", // const void *src
      "i32", // int src_dtype
      "i32", // int count
    ],
    result: "void",
  },
  fill_words: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // uint32_t *dst
      "i32", // uint32_t bits
      "i32", // int count
    ],
    result: "void",
  },
  copy_bytes: {
    parameters: [
      "u64", // tl_context *ctx
      "u64", // void *dst
      "u64", // const void *src
      "usize", // size_t count
    ],
    result: "void",
  },
} as const satisfies Deno.ForeignLibraryInterface;
