// The instructions of Hopper's tensor cores, for compute capability 9.0a: products of a warpgroup, four warps in a row, with
// operands in shared memory, that go on while its threads do something else. All threads of a warpgroup take part, and none of
// these instructions may stand where its warps go different ways. Warp w has rows 16 w ... 16 w + 15 of a product's 64, as
// fragments that are those of mma.cuh: its sums [n] belong to columns 8 n ... 8 n + 7.
//
// Between `wgmma_fence` and the `wgmma_wait` that covers a product nobody may use its registers, nor write shared memory that
// it reads. What was written to shared memory before needs `fence_shared_async` of the thread that wrote it, and then a
// barrier. Facts are those of PTX's manual, sections on wgmma and its matrix descriptors.

#ifndef TINYLLAMA_MMA_HOPPER_CUH
#define TINYLLAMA_MMA_HOPPER_CUH

#include "mma.cuh"

constexpr int WARPGROUP = 128;
constexpr int WARPGROUP_ROWS = 64; // of its product
// Columns of a panel: rows of 128 bytes, whose 16-byte chunks are permuted as those of Tile<64> (128-byte swizzle).
constexpr int PANEL = 64;
constexpr int PANEL_ROW_BYTES = 128;

#ifdef CUDA_SIM

DEVICE unsigned char *aligned_shared() { return (unsigned char *)cuda_sim::dynamic_shared(); }
DEVICE uint32_t shared_address(const void *shared) { return (uint32_t)((const unsigned char *)shared - aligned_shared()); }
DEVICE void fence_shared_async() { cuda_sim::fence_proxy_async(); }
DEVICE void wgmma_fence(int line = __builtin_LINE()) { cuda_sim::wgmma_fence(line); }
DEVICE void wgmma_commit(int line = __builtin_LINE()) { cuda_sim::wgmma_commit(line); }

template <int PENDING, int N>
DEVICE void wgmma_wait(float (*)[4], int line = __builtin_LINE()) { cuda_sim::wgmma_wait(PENDING, line); }
template <int N>
DEVICE void made_here(float (*)[4]) {}

template <int N>
DEVICE void wgmma(float d[N / 8][4], uint64_t a, uint64_t b, bool is_added) { cuda_sim::wgmma_bf16(d[0], N, a, b, is_added); }
template <int N>
DEVICE void wgmma(float d[N / 8][4], const uint32_t a[4], uint64_t b) { cuda_sim::wgmma_bf16(d[0], N, a, b); }

#else

// Dynamic shared memory from a multiple of 1024 bytes on, where the permutation of chunks begins anew.
DEVICE unsigned char *aligned_shared() {
  extern __shared__ __align__(1024) unsigned char aligned_shared_bytes[];
  return aligned_shared_bytes;
}
DEVICE uint32_t shared_address(const void *shared) { return (uint32_t)__cvta_generic_to_shared(shared); }

// What this thread has written to shared memory is there for products that begin after a barrier.
DEVICE void fence_shared_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// What was begun so far is a group.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// The compiler makes these numbers (64 x N) before what comes next, and uses them after it.
template <int N>
DEVICE void made_here(float (*d)[4]) {
#pragma unroll
  for (int i = 0; i < N / 2; i++) asm volatile("" : "+f"(d[i / 4][i % 4])::"memory");
}

// Until all groups but the newest PENDING are done; d are the sums (64 x N) that are waited for.
template <int PENDING, int N>
DEVICE void wgmma_wait(float (*d)[4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
  made_here<N>(d);
}

#define SUMS_4(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define SUMS_16(n) SUMS_4(n), SUMS_4(n + 1), SUMS_4(n + 2), SUMS_4(n + 3)
#define SUMS_32(n) SUMS_16(n), SUMS_16(n + 4)
#define NAMES_32                                                                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, " \
  "%26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                                             \
  NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, "     \
           "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA(N, NAMES, OPERANDS, IS_ADDED, TRANSPOSES)                                                                      \
  "{ .reg .pred added; setp.ne.b32 added, " IS_ADDED ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" NAMES  \
  "}, " OPERANDS ", added, 1, 1, " TRANSPOSES "; }"

// d = a · bᵀ, added to d where asked: both in shared memory, a (64 x 16) and b (N x 16) with 16 columns of panels.
template <int N>
DEVICE void wgmma(float d[N / 8][4], uint64_t a, uint64_t b, bool is_added) {
  static_assert(N == 64 || N == 128, "other widths have other instructions");
  if constexpr (N == 64) asm volatile(WGMMA(64, NAMES_32, "%32, %33", "%34", "0, 0") : SUMS_32(0) : "l"(a), "l"(b), "r"((int)is_added));
  else asm volatile(WGMMA(128, NAMES_64, "%64, %65", "%66", "0, 0") : SUMS_32(0), SUMS_32(8) : "l"(a), "l"(b), "r"((int)is_added));
}

// d += a · b, a (64 x 16) in registers, b (16 x N) 16 rows of panels in shared memory.
template <int N>
DEVICE void wgmma(float d[N / 8][4], const uint32_t a[4], uint64_t b) {
  static_assert(N == 64 || N == 128, "other widths have other instructions");
  if constexpr (N == 64) asm volatile(WGMMA(64, NAMES_32, "{%32, %33, %34, %35}, %36", "%37", "1") : SUMS_32(0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(1));
  else asm volatile(WGMMA(128, NAMES_64, "{%64, %65, %66, %67}, %68", "%69", "1") : SUMS_32(0), SUMS_32(8) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(1));
}

#endif

// Where a product finds an operand: the address of its first row, at a multiple of 1024 bytes but for the columns skipped in
// a panel, the bytes from panel to panel, which count for operands by rows only, and those from eight rows to the next. The
// address is a place and `skipped` bytes more: what is known when compiling is to be one number to add.
DEVICE uint64_t operand(const void *place, int skipped, int panel_bytes) {
  constexpr uint32_t UNIT = 16, SWIZZLE_128 = 1, HIGH = SWIZZLE_128 << 30 | 8 * PANEL_ROW_BYTES / UNIT;
  return (uint64_t)HIGH << 32 | (shared_address(place) / UNIT + (skipped / UNIT + (panel_bytes / UNIT << 16)));
}

#endif
