// The CUDA language for the host's C++ compiler, included before every kernel of kernels/cuda by the simulator. One fiber
// is one thread, blocks run one after another. `__shared__` declarations and the list of `__global__` functions are
// rewritten by build.ts; what PTX wrappers need under `#ifdef CUDA_SIM` stands in namespace cuda_sim.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#ifndef CUDA_SIM
#define CUDA_SIM 1
#endif

#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
  unsigned x, y, z;
};
struct uint2 {
  unsigned x, y;
} __align__(8);
struct int2 {
  int x, y;
} __align__(8);
struct float2 {
  float x, y;
} __align__(8);
struct uint4 {
  unsigned x, y, z, w;
} __align__(16);
struct int4 {
  int x, y, z, w;
} __align__(16);
struct float4 {
  float x, y, z, w;
} __align__(16);

inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_sim {

/** What one lane hands to the others in a warp operation: at most this many bytes. */
constexpr size_t DEPOSIT_BYTES = 64;
struct alignas(16) Deposit {
  unsigned char bytes[DEPOSIT_BYTES];
};

/** Thread's lane in its warp. */
unsigned lane();
/** __syncthreads. */
void block_barrier();
/**
 * All lanes of `mask` that have not ended meet; returns 32 deposits, one a lane, 0xFF where a lane made none. Valid until
 * the thread's next warp operation.
 */
Deposit *exchange(unsigned mask, const void *data, size_t bytes);

/** Start of dynamic shared memory, the same address for every launch. */
void *dynamic_shared();
/** The block's static shared variable that `key` stands for. */
void *static_shared(const void *key, size_t bytes, size_t alignment);
template <class T> T &shared_variable(const void *key, size_t alignment = 0) {
  return *static_cast<T *>(
      static_shared(key, sizeof(T), alignment > alignof(T) ? alignment : alignof(T)));
}

enum class Atomic { ADD, MIN, MAX, EXCHANGE };
/** The old value. There is none for floating point: sums would depend on the order of threads. */
unsigned atomic(Atomic operation, unsigned *place, unsigned value);

/** cp.async: `source_bytes` of `bytes` (4, 8 or 16) are copied, the rest is zero. Touching them before `wait` is a race. */
void async_copy(void *shared, const void *global, unsigned bytes, unsigned source_bytes);
/** cp.async.commit_group */
void async_commit();
/** cp.async.wait_group `pending`: all but the newest `pending` groups of this thread are there. */
void async_wait(unsigned pending);

/**
 * ldmatrix.sync.m8n8.x`count`.b16: lane i gives the address of row i % 8 of matrix i / 8, 16-byte aligned in shared
 * memory; out[m] is this lane's two elements of matrix m, transposed where asked.
 */
void ldmatrix(uint32_t *out, int count, const void *row, bool is_transposed);
/** mma.sync.m16n8k16.row.col.f32.bf16.bf16.f32: d = a · b + c. */
void mma_bf16_16x8x16(float *d, const uint32_t *a, const uint32_t *b, const float *c);

/** griddepcontrol.wait, where the kernel's PTX has it. */
void wait_for_prerequisites();

/** fence.proxy.async: products that begin after a barrier find what this thread has written to shared memory. */
void fence_proxy_async();
/**
 * wgmma.fence.sync.aligned: products may use registers that the thread has used. Like the other two with a line of the
 * source, it has to be the same instruction for all warps of a warpgroup.
 */
void wgmma_fence(int line = __builtin_LINE());
/**
 * wgmma.mma_async.sync.aligned.m64n`n`k16.f32.bf16.bf16: d = a · bᵀ, added to d where asked. Matrix descriptors of both
 * (K-major); d is the lane's n / 2 sums.
 */
void wgmma_bf16(float *d, int n, uint64_t a, uint64_t b, bool is_added);
/** The same with d += a · b, the lane's fragment of a, and the descriptor of b (N-major). */
void wgmma_bf16(float *d, int n, const uint32_t *a, uint64_t b);
/** wgmma.commit_group.sync.aligned */
void wgmma_commit(int line = __builtin_LINE());
/** wgmma.wait_group.sync.aligned `pending` */
void wgmma_wait(unsigned pending, int line = __builtin_LINE());

/** One __global__ function. */
struct Entry {
  const char *name;
  /** 0 without __launch_bounds__. */
  unsigned max_threads;
  unsigned count;
  const unsigned char *sizes;
  void (*call)(const Entry &entry, const uint64_t *arguments);
  void (*function)();
  const Entry *next;
};
/** Adds to the list that modules find their functions in. */
void register_entry(Entry *entry);

template <class T> T argument(uint64_t slot) {
  T value;
  memcpy(&value, &slot, sizeof value);
  return value;
}

template <class... A, size_t... I>
void call_with(void (*function)(A...), const uint64_t *slots, std::index_sequence<I...>) {
  function(argument<A>(slots[I])...);
}

template <class... A> struct Signature {
  static_assert(((std::is_pointer_v<A> || std::is_same_v<A, int> || std::is_same_v<A, unsigned> ||
                  std::is_same_v<A, float>)&&...),
                "kernels take pointers, int and float only");
  static constexpr unsigned char sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
  static void call(const Entry &entry, const uint64_t *slots) {
    call_with(reinterpret_cast<void (*)(A...)>(entry.function), slots,
              std::index_sequence_for<A...>{});
  }
};

/** A global of this type per __global__ function fills the list when the library is loaded. */
struct Registration {
  Entry entry;
  template <class... A>
  Registration(const char *name, void (*function)(A...), unsigned max_threads)
      : entry{name, max_threads, sizeof...(A), Signature<A...>::sizes, Signature<A...>::call,
              reinterpret_cast<void (*)()>(function), nullptr} {
    register_entry(&entry);
  }
};

template <class T> T deposited(const Deposit *all, unsigned from) {
  T value;
  memcpy(&value, all[from].bytes, sizeof value);
  return value;
}

} // namespace cuda_sim

inline void __syncthreads() { cuda_sim::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_sim::exchange(mask, "", 0); }

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned segment = cuda_sim::lane() & ~unsigned(width - 1);
  const cuda_sim::Deposit *all = cuda_sim::exchange(mask, &value, sizeof value);
  return cuda_sim::deposited<T>(all, segment | (unsigned(source) & unsigned(width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const unsigned own = cuda_sim::lane(), source = own ^ unsigned(bits);
  const cuda_sim::Deposit *all = cuda_sim::exchange(mask, &value, sizeof value);
  return cuda_sim::deposited<T>(all, source / width > own / width ? own : source);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned own = cuda_sim::lane(), source = own + delta;
  const cuda_sim::Deposit *all = cuda_sim::exchange(mask, &value, sizeof value);
  return cuda_sim::deposited<T>(all, source / width > own / width ? own : source);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned own = cuda_sim::lane();
  const cuda_sim::Deposit *all = cuda_sim::exchange(mask, &value, sizeof value);
  return cuda_sim::deposited<T>(all, own % width < delta ? own : own - delta);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned char vote = predicate != 0;
  const cuda_sim::Deposit *all = cuda_sim::exchange(mask, &vote, 1);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; i++) bits |= unsigned(all[i].bytes[0] == 1) << i;
  return bits & mask;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

inline unsigned atomicAdd(unsigned *place, unsigned value) { return cuda_sim::atomic(cuda_sim::Atomic::ADD, place, value); }
inline int atomicAdd(int *place, int value) { return int(atomicAdd(reinterpret_cast<unsigned *>(place), unsigned(value))); }
inline unsigned atomicMin(unsigned *place, unsigned value) { return cuda_sim::atomic(cuda_sim::Atomic::MIN, place, value); }
inline unsigned atomicMax(unsigned *place, unsigned value) { return cuda_sim::atomic(cuda_sim::Atomic::MAX, place, value); }
inline unsigned atomicExch(unsigned *place, unsigned value) { return cuda_sim::atomic(cuda_sim::Atomic::EXCHANGE, place, value); }

template <class T> T __ldg(const T *place) { return *place; }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline int __float2int_rn(float x) { return int(rintf(x)); }
// glibc declares these names itself.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
