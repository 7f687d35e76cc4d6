// A row in registers: each thread of a row holds its first packs of it, so that passes over rows that are not very wide
// read memory once. Packs beyond those are read again in each pass.

#ifndef TINYLLAMA_ROW_CUH
#define TINYLLAMA_ROW_CUH

#include "device.cuh"

template <typename T, int KEPT>
struct Row {
  static constexpr int WIDTH = Pack<T>::WIDTH;
  const T *row;
  int width;
  bool packed;
  Pack<T> kept[KEPT];

  DEVICE Row(const T *array, size_t index, int width) : row(array + index * width), width(width), packed(is_packed(array, width)) {
#pragma unroll
    for (int k = 0; k < KEPT; k++)
      if (position(k) < width) kept[k] = load_pack(row, position(k), width, packed);
  }

  // Where the thread's pack number k begins.
  DEVICE int position(int k) const { return (k * (int)blockDim.x + (int)threadIdx.x) * WIDTH; }

  // visit(at, pack) for the thread's packs. Elements beyond the row are 0.
  template <typename Visit>
  DEVICE void each(Visit visit) const {
#pragma unroll
    for (int k = 0; k < KEPT; k++)
      if (position(k) < width) visit(position(k), kept[k]);
#pragma unroll 1
    for (int k = KEPT; position(k) < width; k++) visit(position(k), load_pack(row, position(k), width, packed));
  }
};

#endif
