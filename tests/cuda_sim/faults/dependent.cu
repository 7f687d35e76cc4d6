// Kernels that may begin before those they depend on have ended: right ones, and the mistakes that the simulator has to find.

// A kernel that others depend on.
extern "C" __global__ void doubles(float *x) { x[threadIdx.x] *= 2; }

// out = x + weight. `mistake` 1: x is read too soon; 2: out is written too soon; 3: a warp waits, the other one does not; 4:
// nobody waits; 5: the wait comes from an asynchronous copy of x that has begun.
extern "C" __global__ void adds_weight(float *out, const float *x, const float *weight, int mistake) {
  __shared__ float staged[64];
  int i = threadIdx.x;
  float kept = weight[i];
  if (mistake == 1) kept += x[i];
  if (mistake == 2) out[i] = 0;
  if (mistake == 5) cuda_sim::async_copy(staged + i, x + i, 4, 4);
  if (mistake != 4 && (mistake != 3 || i < 32)) cuda_sim::wait_for_prerequisites();
  if (mistake == 3 && i >= 32) return;
  if (mistake == 5) {
    cuda_sim::async_commit();
    cuda_sim::async_wait(0);
  }
  if (mistake == 4) return;
  out[i] = mistake == 1 ? kept : x[i] + kept;
}

// Writes nothing but what is its own: kernels after it depend on those before it too.
extern "C" __global__ void passes(float *own) {
  cuda_sim::wait_for_prerequisites();
  own[threadIdx.x] = 0;
}
