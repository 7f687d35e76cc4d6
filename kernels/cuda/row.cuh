// A row in registers: each thread of a row holds its first packs of it, so that passes over rows that are not very wide
// read memory once. Packs beyond those, and all of rows that cannot be moved in whole packs, are read again in each pass.

#ifndef TINYLLAMA_ROW_CUH
#define TINYLLAMA_ROW_CUH

#include "device.cuh"

template <typename T, int KEPT>
struct Row {
  static constexpr int WIDTH = Pack<T>::WIDTH;
  const T *row;
  int width;
  float missing; // what elements beyond the row are taken for
  bool packed;
  Pack<T> kept[KEPT];

  DEVICE Row(const T *array, size_t index, int width, float missing = 0)
      : row(array + index * width), width(width), missing(missing), packed(is_packed(array, width)) {
    if (!packed) return;
#pragma unroll
    for (int k = 0; k < KEPT; k++)
      if (position(k) < width) kept[k] = load_pack(row, position(k), width, true);
  }

  // Where the thread's pack number k begins.
  DEVICE int position(int k) const { return (k * (int)blockDim.x + (int)threadIdx.x) * WIDTH; }

  // The thread's pack number k of a row of which it keeps one.
  DEVICE Pack<T> pack(int k) const {
    static_assert(KEPT == 1, "the compiler must know which pack is kept");
    return packed && k == 0 ? kept[0] : load_pack(row, position(k), width, packed, missing);
  }

  // visit(k, at, pack) for the thread's packs, of which number k begins at `at`.
  template <typename Visit>
  DEVICE void each(Visit visit) const {
    if (packed) {
#pragma unroll
      for (int k = 0; k < KEPT; k++)
        if (position(k) < width) visit(k, position(k), kept[k]);
    }
#pragma unroll 1
    for (int k = packed ? KEPT : 0; position(k) < width; k++) visit(k, position(k), load_pack(row, position(k), width, packed, missing));
  }
};

#endif
