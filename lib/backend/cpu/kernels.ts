// The table of C kernels that the CPU backend calls, one implementation native and one WASM; see kernels/c/kernels.h for
// what each does. Not the operations of the model: those are the family files beside this one.

/** Address or size_t as the library takes it: a number in 32-bit WASM, a bigint in 64-bit WASM and native code. */
export type Address = number | bigint;

/** The functions of kernels.h. All addresses of one table are of one kind. */
export interface CpuKernels {
  tl_cpu_features(): number;
  tl_context_bytes(threads: number): Address;
  tl_context_open(ctx: Address, threads: number): number;
  tl_worker_run(ctx: Address, worker: number): void;
  tl_context_close(ctx: Address): void;
  embedding_forward(
    ctx: Address,
    out: Address,
    tokens: Address,
    table: Address,
    tableDtype: number,
    n: number,
    c: number,
  ): void;
  embedding_backward(
    ctx: Address,
    dTable: Address,
    dOut: Address,
    tokens: Address,
    n: number,
    c: number,
    v: number,
  ): void;
  rmsnorm_forward(
    ctx: Address,
    out: Address,
    rstd: Address,
    x: Address,
    weight: Address,
    n: number,
    c: number,
    eps: number,
  ): void;
  rmsnorm_backward(
    ctx: Address,
    dX: Address,
    dWeight: Address,
    dOut: Address,
    x: Address,
    weight: Address,
    rstd: Address,
    n: number,
    c: number,
  ): void;
  linear_forward(
    ctx: Address,
    out: Address,
    x: Address,
    weight: Address,
    weightDtype: number,
    addend: Address,
    n: number,
    o: number,
    i: number,
    outStride: number,
    matmulDtype: number,
  ): void;
  linear_backward_input(
    ctx: Address,
    dX: Address,
    dOut: Address,
    weight: Address,
    n: number,
    o: number,
    i: number,
    matmulDtype: number,
  ): void;
  linear_backward_weight(
    ctx: Address,
    dWeight: Address,
    dOut: Address,
    x: Address,
    n: number,
    o: number,
    i: number,
    matmulDtype: number,
  ): void;
  rope(
    ctx: Address,
    qkv: Address,
    table: Address,
    positions: Address,
    n: number,
    rotated: number,
    heads: number,
    d: number,
    inverse: number,
  ): void;
  attention_forward(
    ctx: Address,
    out: Address,
    lse: Address,
    qkv: Address,
    b: number,
    t: number,
    h: number,
    k: number,
    d: number,
  ): void;
  attention_backward(
    ctx: Address,
    dQkv: Address,
    dOut: Address,
    qkv: Address,
    out: Address,
    lse: Address,
    b: number,
    t: number,
    h: number,
    k: number,
    d: number,
  ): void;
  kv_cache_append(
    ctx: Address,
    keys: Address,
    values: Address,
    qkv: Address,
    positions: Address,
    b: number,
    t: number,
    h: number,
    k: number,
    d: number,
    s: number,
  ): void;
  attention_cached(
    ctx: Address,
    out: Address,
    qkv: Address,
    keys: Address,
    values: Address,
    positions: Address,
    b: number,
    t: number,
    h: number,
    k: number,
    d: number,
    s: number,
  ): void;
  swiglu_forward(ctx: Address, out: Address, gateUp: Address, n: number, f: number): void;
  swiglu_backward(
    ctx: Address,
    dGateUp: Address,
    dOut: Address,
    gateUp: Address,
    n: number,
    f: number,
  ): void;
  cross_entropy_forward(
    ctx: Address,
    losses: Address,
    logits: Address,
    targets: Address,
    n: number,
    v: number,
  ): void;
  cross_entropy_forward_backward(
    ctx: Address,
    losses: Address,
    logits: Address,
    targets: Address,
    n: number,
    v: number,
    scale: number,
  ): void;
  reduce_sum(ctx: Address, out: Address, x: Address, count: number): void;
  reduce_sum_of_squares(ctx: Address, out: Address, x: Address, count: number): void;
  reduce_clip_scale(
    ctx: Address,
    out: Address,
    squares: Address,
    count: number,
    loss: Address,
    maxNorm: number,
  ): void;
  adamw_update(
    ctx: Address,
    param: Address,
    grad: Address,
    m: Address,
    v: Address,
    clip: Address,
    schedule: Address,
    count: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    weightDecay: number,
  ): void;
  sample_token(
    ctx: Address,
    tokens: Address,
    positions: Address,
    logProbs: Address,
    logits: Address,
    seen: Address,
    rng: Address,
    b: number,
    v: number,
    temperature: number,
    topK: number,
    topP: number,
    minP: number,
    repetitionPenalty: number,
  ): void;
  cast_elements(
    ctx: Address,
    dst: Address,
    dstDtype: number,
    src: Address,
    srcDtype: number,
    count: number,
  ): void;
  quantize_elements(
    ctx: Address,
    dst: Address,
    dstDtype: number,
    src: Address,
    srcDtype: number,
    count: number,
  ): void;
  fill_words(ctx: Address, dst: Address, bits: number, count: number): void;
  copy_bytes(ctx: Address, dst: Address, src: Address, count: Address): void;
}
