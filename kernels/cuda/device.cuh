// What all kernels share: element types, packed 16-byte access, sums over a warp and over the threads of a row. Inline PTX
// stands here, in mma.cuh and in mma_hopper.cuh only, each with a second body for the simulator of the tests (CUDA_SIM).

#ifndef TINYLLAMA_DEVICE_CUH
#define TINYLLAMA_DEVICE_CUH

#include <stdint.h>

#define DEVICE __device__ __forceinline__

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Element types of weights, the numbers known to lib/backend/cuda.
enum dtype_code { F32 = 0, BF16 = 1, F16 = 2, Q8_0 = 3, Q4_0 = 4 };

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

DEVICE float float_of(uint32_t bits) {
  union {
    uint32_t bits;
    float value;
  } both = {bits};
  return both.value;
}

DEVICE uint32_t bits_of(float value) {
  union {
    float value;
    uint32_t bits;
  } both = {value};
  return both.bits;
}

#ifdef CUDA_SIM

// Rounded to nearest even; a NaN becomes 0x7fff.
DEVICE uint16_t bf16_bits(float x) {
  uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

DEVICE uint16_t f16_bits(float x) {
  if (x != x) return 0x7fff;
  _Float16 half = (_Float16)x;
  uint16_t bits;
  __builtin_memcpy(&bits, &half, 2);
  return bits;
}

DEVICE float float_of_f16(uint16_t bits) {
  _Float16 half;
  __builtin_memcpy(&half, &bits, 2);
  return (float)half;
}

// Two numbers as bf16, the first in the low half.
DEVICE uint32_t bf16_pair(float low, float high) { return (uint32_t)bf16_bits(high) << 16 | bf16_bits(low); }

// 2^x, to 2 units in the last place.
DEVICE float exp2_fast(float x) { return exp2f(x); }

// 1 / x, to 1 unit in the last place, 0 where that would be subnormal.
DEVICE float reciprocal_fast(float x) { return 1 / x; }

DEVICE unsigned char *dynamic_shared() { return (unsigned char *)cuda_sim::dynamic_shared(); }

DEVICE void launch_dependents() {}
DEVICE void wait_for_prerequisites() { cuda_sim::wait_for_prerequisites(); }

#else

// Rounded to nearest even; a NaN becomes 0x7fff.
DEVICE uint16_t bf16_bits(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

DEVICE uint16_t f16_bits(float x) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

DEVICE float float_of_f16(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}

DEVICE uint32_t bf16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

DEVICE float exp2_fast(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

DEVICE float reciprocal_fast(float x) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
}

DEVICE unsigned char *dynamic_shared() {
  extern __shared__ __align__(256) unsigned char shared_bytes[];
  return shared_bytes;
}

// Kernels of lib/backend/cuda/dependent.ts. Where one is launched so, the kernels before it in the stream may still run.
#if __CUDA_ARCH__ >= 900

// The next kernel in the stream may come to the multiprocessors once all blocks have said so.
DEVICE void launch_dependents() { asm volatile("griddepcontrol.launch_dependents;"); }

// The kernels before this one have ended, and what they wrote is there. Every thread has to wait before it writes anything,
// and before it reads what is not a weight.
DEVICE void wait_for_prerequisites() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

#else

DEVICE void launch_dependents() {}
DEVICE void wait_for_prerequisites() {}

#endif

#endif

DEVICE void begin_dependent() {
  launch_dependents();
  wait_for_prerequisites();
}

constexpr float LOG2_E = 1.4426950408889634f;

// e^x, for results of which a relative error of |x| 2^-24 is good enough.
DEVICE float exp_fast(float x) { return exp2_fast(x * LOG2_E); }

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return float_of((uint32_t)x.bits << 16); }
DEVICE float to_float(f16 x) { return float_of_f16(x.bits); }

template <typename T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) { return x; }
template <>
DEVICE bf16 from_float<bf16>(float x) { return bf16{bf16_bits(x)}; }
template <>
DEVICE f16 from_float<f16>(float x) { return f16{f16_bits(x)}; }

// 16 bytes of elements, moved by one instruction and kept as whole words.
template <typename T>
struct alignas(16) Pack {
  static constexpr int WIDTH = 16 / sizeof(T);
  uint32_t words[4];

  DEVICE T get(int i) const {
    T x;
    extract(&x, i);
    return x;
  }
  DEVICE float number(int i) const { return to_float(get(i)); }
  static DEVICE Pack of(const float *x) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < 4; i++) pack.words[i] = word(x + i * WIDTH / 4, T{});
    return pack;
  }
  // Element i of a pack where it is 0 so far.
  DEVICE void set(int i, float x) { words[i] = bits_of(x); }
  template <typename Half>
  DEVICE void set(int i, Half x) { words[i / 2] |= (uint32_t)x.bits << 16 * (i % 2); }

private:
  static DEVICE uint32_t word(const float *x, float) { return bits_of(x[0]); }
  static DEVICE uint32_t word(const float *x, bf16) { return bf16_pair(x[0], x[1]); }
  static DEVICE uint32_t word(const float *x, f16) { return (uint32_t)f16_bits(x[1]) << 16 | f16_bits(x[0]); }
  DEVICE void extract(float *x, int i) const { *x = float_of(words[i]); }
  template <typename Half>
  DEVICE void extract(Half *x, int i) const { x->bits = (uint16_t)(words[i / 2] >> 16 * (i % 2)); }
};

// True when packs of an array's rows may be moved whole: it begins at a multiple of 16 bytes, and so does every row.
template <typename T>
DEVICE bool is_packed(const T *array, int width) {
  return width % Pack<T>::WIDTH == 0 && (uintptr_t)array % 16 == 0;
}

// Elements at ... at + WIDTH - 1 of a row of `width`; those beyond it are `missing`.
template <typename T>
DEVICE Pack<T> load_pack(const T *row, int at, int width, bool packed, float missing = 0) {
  if (packed) return *(const Pack<T> *)(row + at);
  Pack<T> pack = {{0, 0, 0, 0}};
#pragma unroll
  for (int i = 0; i < Pack<T>::WIDTH; i++)
    pack.set(i, at + i < width ? row[at + i] : from_float<T>(missing));
  return pack;
}

template <typename T>
DEVICE void store_pack(T *row, int at, int width, bool packed, const Pack<T> &pack) {
  if (packed) {
    *(Pack<T> *)(row + at) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < Pack<T>::WIDTH; i++)
    if (at + i < width) row[at + i] = pack.get(i);
}

// The same in f32, whatever the array's type: `x` holds as many numbers as a pack of T.
template <typename T>
DEVICE void load_floats(float *x, const T *row, int at, int width, bool packed) {
  Pack<T> pack = load_pack(row, at, width, packed);
#pragma unroll
  for (int i = 0; i < Pack<T>::WIDTH; i++) x[i] = pack.number(i);
}

template <typename T>
DEVICE void store_floats(T *row, int at, int width, bool packed, const float *x) {
  store_pack(row, at, width, packed, Pack<T>::of(x));
}

// `COUNT` f32 numbers that lie beside a pack of a narrower type.
template <int COUNT>
DEVICE void load_f32(float *x, const float *row, int at, int width, bool packed) {
#pragma unroll
  for (int i = 0; i < COUNT; i += 4) load_floats(x + i, row, at + i, width, packed);
}

template <int COUNT>
DEVICE void store_f32(float *row, int at, int width, bool packed, const float *x) {
#pragma unroll
  for (int i = 0; i < COUNT; i += 4) store_floats(row, at + i, width, packed, x + i);
}

DEVICE bool is_finite(float x) { return (bits_of(x) & 0x7f800000u) != 0x7f800000u; }
constexpr float LOWEST = -3.402823466e38f;

template <typename N>
DEVICE N warp_sum(N value) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
  return value;
}

DEVICE float warp_max(float value) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
  return value;
}

constexpr int MAX_WARPS = 32;

// Σ value over the blockDim.x threads of a row, in a fixed order, for all of them. Rows of one warp need no barrier, so a
// block may hold several (blockDim.y); wider rows have a block of their own.
template <typename N>
DEVICE N row_sum(N value) {
  __shared__ N sums[MAX_WARPS];
  value = warp_sum(value);
  if (blockDim.x == WARP) return value;
  int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  __syncthreads();
  if (lane == 0) sums[threadIdx.x / WARP] = value;
  __syncthreads();
  return warp_sum(lane < warps ? sums[lane] : (N)0);
}

DEVICE float row_max(float value) {
  __shared__ float greatest[MAX_WARPS];
  value = warp_max(value);
  if (blockDim.x == WARP) return value;
  int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  __syncthreads();
  if (lane == 0) greatest[threadIdx.x / WARP] = value;
  __syncthreads();
  return warp_max(lane < warps ? greatest[lane] : LOWEST);
}

// The row of this thread, where a block holds blockDim.y of them.
DEVICE int block_row() { return blockIdx.x * blockDim.y + threadIdx.y; }

// Number of this thread in a one-dimensional grid.
DEVICE size_t grid_thread() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }

#endif
