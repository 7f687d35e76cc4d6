// The instructions of tensor cores and of copies that go on while a warp computes, for compute capability 8.0. All lanes of
// a warp take part. Fragment layouts are those of PTX's mma.m16n8k16: with g = lane / 4 and c = 2 (lane % 4), a[0 ... 3]
// hold rows g, g + 8, g, g + 8 and columns c, c, c + 8, c + 8; b[0 ... 1] hold column g and rows c, c + 8 (two elements a
// word, c and c + 1); d[0 ... 3] are (g, c), (g, c + 1), (g + 8, c), (g + 8, c + 1).

#ifndef TINYLLAMA_MMA_CUH
#define TINYLLAMA_MMA_CUH

#include "device.cuh"

#ifdef CUDA_SIM

typedef uintptr_t Place;
DEVICE Place place_of(const void *shared) { return (Place)shared; }

DEVICE void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2]) { cuda_sim::mma_bf16_16x8x16(d, a, b, d); }

DEVICE void ldmatrix_x4(uint32_t fragment[4], Place row) { cuda_sim::ldmatrix(fragment, 4, (const void *)row, false); }
DEVICE void ldmatrix_x4_trans(uint32_t fragment[4], Place row) { cuda_sim::ldmatrix(fragment, 4, (const void *)row, true); }

template <int BYTES>
DEVICE void copy_async(void *shared, const void *global, bool is_there) {
  cuda_sim::async_copy(shared, global, BYTES, is_there ? BYTES : 0);
}
DEVICE void copy_async_wait() {
  cuda_sim::async_commit();
  cuda_sim::async_wait(0);
}

#else

// An address in shared memory.
typedef uint32_t Place;
DEVICE Place place_of(const void *shared) { return (Place)__cvta_generic_to_shared(shared); }

// d += a · b, bf16 operands, f32 sums.
DEVICE void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices; lane i gives row i % 8 of matrix i / 8.
DEVICE void ldmatrix_x4(uint32_t fragment[4], Place row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
}

// The same with every matrix transposed.
DEVICE void ldmatrix_x4_trans(uint32_t fragment[4], Place row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
}

// 4 or 16 bytes to shared memory, zeros when the source is not there: then nothing is read.
template <int BYTES>
DEVICE void copy_async(void *shared, const void *global, bool is_there) {
  int there = is_there ? BYTES : 0;
  if (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place_of(shared)), "l"(global), "r"(there) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(place_of(shared)), "l"(global), "r"(there) : "memory");
  }
}

// Until all copies of this thread have arrived.
DEVICE void copy_async_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif

#endif
