// Kernels with one mistake each, and their corrected twins, for the simulator's own tests.

#define FULL 0xffffffffu

extern "C" __global__ void double_in_place(float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] *= 2;
}

extern "C" __global__ void add_scaled(float *out, const float *x, float scale, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] += scale * x[i];
}

// Reads one element beyond.
extern "C" __global__ void reads_beyond(float *out, const float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) out[0] = x[i];
}

extern "C" __global__ void writes_null(float *out) { *out = 1; }

// 16 bytes at an address that is a multiple of 4 only.
extern "C" __global__ void reads_askew(float *out, const float *x) {
  *(float4 *)out = *(const float4 *)(x + 1);
}

// Σ x over one block through shared memory; `barriers` 0 leaves them out.
extern "C" __global__ void block_sum(float *out, const float *x, int barriers) {
  __shared__ float values[64];
  values[threadIdx.x] = x[threadIdx.x];
  if (barriers) __syncthreads();
  float sum = 0;
  for (int i = 0; i < (int)blockDim.x; i++) sum += values[i];
  if (threadIdx.x == 0) out[0] = sum;
}

// out[i] = x[i + 1] by way of shared memory that is written twice; `barriers` 0 leaves out the one between reading and writing.
extern "C" __global__ void shifts(float *out, const float *x, int barriers) {
  __shared__ float values[64];
  int i = threadIdx.x;
  values[i] = x[i];
  __syncthreads();
  float next = values[(i + 1) % 64];
  if (barriers) __syncthreads();
  values[i] = next;
  out[i] = values[i];
}

// Turns the order of each warp's values round; `syncs` 0 leaves out what orders the lanes.
extern "C" __global__ void reverses(float *out, const float *x, int syncs) {
  __shared__ float values[64];
  int i = threadIdx.x;
  values[i] = x[i];
  if (syncs) __syncwarp();
  out[i] = values[i ^ 31];
}

// out[64 + i] = out[i + 1] = x[i + 1] for one block; `barriers` 0 leaves out the one between writing and reading device memory.
extern "C" __global__ void passes_on(float *out, const float *x, int barriers) {
  int i = threadIdx.x;
  out[i] = x[i];
  if (barriers) __syncthreads();
  out[64 + i] = out[(i + 1) % 64];
}

// Every block adds to the same number.
extern "C" __global__ void accumulates(float *out, const float *x) {
  if (threadIdx.x == 0) out[0] += x[blockIdx.x];
}

// Counts all threads, as blocks may.
extern "C" __global__ void counts_threads(unsigned *out) { atomicAdd(out, 1u); }

extern "C" __global__ void reads_unset_shared(float *out) {
  __shared__ float values[64], others[2];
  others[1] = 1;
  out[0] = values[threadIdx.x] + others[1];
}

// Half of a warp waits for all of it.
extern "C" __global__ void hangs(float *out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(FULL, 1.0f, 1);
  else __syncthreads();
}

extern "C" __global__ void __launch_bounds__(64) bounded(float *out) { out[threadIdx.x] = 1; }

extern "C" __global__ void warp_sum(float *out, const float *x) {
  float sum = x[threadIdx.x];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL, sum, distance);
  if (threadIdx.x % 32 == 0) out[threadIdx.x / 32] = sum;
}

// Copies 4 floats a thread in the background; `waits` 0 reads them too soon.
extern "C" __global__ void copies(float *out, const float *x, int waits) {
  float *staged = (float *)cuda_sim::dynamic_shared() + 4 * threadIdx.x;
  cuda_sim::async_copy(staged, x + 4 * threadIdx.x, 16, 16);
  cuda_sim::async_commit();
  if (waits) cuda_sim::async_wait(0);
  for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = staged[i];
  cuda_sim::async_wait(0);
}

// Σ x[i + 1 ... i + 4] from tiles that come by turns into two places, each copied while the one before is read; `barriers` 0
// leaves out the one at the end of a turn.
extern "C" __global__ void sums_tiles(float *out, const float *x, int barriers) {
  __shared__ float places[2][64];
  int i = threadIdx.x;
  float sum = 0;
  cuda_sim::async_copy(&places[0][i], x + i, 4, 4);
  cuda_sim::async_commit();
  for (int turn = 0; turn < 4; turn++) {
    if (turn < 3) cuda_sim::async_copy(&places[(turn + 1) % 2][i], x + (i + turn + 1) % 64, 4, 4);
    cuda_sim::async_commit();
    cuda_sim::async_wait(1);
    __syncthreads();
    sum += places[turn % 2][(i + 1) % 64];
    if (barriers) __syncthreads();
  }
  out[i] = sum;
}

// Writes what a copy is still to read.
extern "C" __global__ void changes_source(float *out, float *x) {
  __shared__ float value;
  cuda_sim::async_copy(&value, x, 4, 4);
  cuda_sim::async_commit();
  x[0] += 1;
  cuda_sim::async_wait(0);
  out[0] = value;
}

// out (16, 8) = a (16, 16) · b (16, 8) of row-major bf16, by one warp through ldmatrix and mma.
extern "C" __global__ void product(float *out, const uint16_t *a, const uint16_t *b) {
  __shared__ __align__(16) uint16_t left[16 * 16];
  __shared__ __align__(16) uint16_t right[16 * 8];
  int lane = threadIdx.x;
  for (int i = lane; i < 16 * 16; i += 32) left[i] = a[i];
  for (int i = lane; i < 16 * 8; i += 32) right[i] = b[i];
  __syncthreads();
  uint32_t fragment_a[4], fragment_b[2];
  cuda_sim::ldmatrix(fragment_a, 4, left + lane % 16 * 16 + lane / 16 * 8, false);
  cuda_sim::ldmatrix(fragment_b, 2, right + lane % 16 * 8, true);
  float sums[4] = {0, 0, 0, 0};
  cuda_sim::mma_bf16_16x8x16(sums, fragment_a, fragment_b, sums);
  for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

// A warp moves 32 numbers to the front, by way of shared memory: those that lie `stride` apart, through places `apart` apart.
extern "C" __global__ void gathers(float *out, const float *x, int stride, int apart) {
  __shared__ float values[1024];
  int i = threadIdx.x;
  values[i * apart] = x[i * stride];
  out[i] = values[i * apart];
}
