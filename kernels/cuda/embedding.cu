// Rows of a table by token id, and the gradient of that. Forward: a block a token, 16 bytes a thread. Backward: rows of one
// token are added in ascending order by one block, without atomics; `links` chains them first (N² comparisons, which for
// the tens of thousands of rows of a micro batch take less than the additions).

#include "elements.cuh"

constexpr int LINK_THREADS = 256;

template <typename T>
DEVICE void embedding_forward(T *out, const int *tokens, const void *table, int dtype, int c) {
  size_t from = (size_t)tokens[blockIdx.x] * c;
  T *row = out + (size_t)blockIdx.x * c;
  bool packed = is_packed(row, c);
  for (int at = threadIdx.x * DECODED; at < c; at += blockDim.x * DECODED) {
    float x[DECODED];
    decode_elements(x, table, dtype, from + at, min(DECODED, c - at));
#pragma unroll
    for (int i = 0; i < DECODED; i += Pack<T>::WIDTH) store_floats(row, at + i, c, packed && at + i < c, x + i);
  }
}

extern "C" __global__ void embedding_forward_bf16(bf16 *out, const int *tokens, const void *table, int dtype, int c) {
  embedding_forward(out, tokens, table, dtype, c);
}
extern "C" __global__ void embedding_forward_f32(float *out, const int *tokens, const void *table, int dtype, int c) {
  embedding_forward(out, tokens, table, dtype, c);
}

// links (2, N): the next row of the same token or -1; and 1 where no earlier row has the token, otherwise 0.
extern "C" __global__ void __launch_bounds__(LINK_THREADS) embedding_links(int *links, const int *tokens, int n) {
  __shared__ int tile[LINK_THREADS];
  int row = (int)grid_thread(), next = -1, is_first = 1;
  int token = row < n ? tokens[row] : -1;
  for (int begin = 0; begin < n; begin += LINK_THREADS) {
    int mine = begin + threadIdx.x, count = min(LINK_THREADS, n - begin);
    __syncthreads();
    if (mine < n) tile[threadIdx.x] = tokens[mine];
    __syncthreads();
    for (int i = 0; i < count; i++) {
      if (tile[i] != token) continue;
      if (begin + i < row) is_first = 0;
      if (begin + i > row && next < 0) next = begin + i;
    }
  }
  if (row >= n) return;
  links[row] = next;
  links[n + row] = is_first;
}

template <typename T>
DEVICE void embedding_backward(float *dtable, const T *dout, const int *tokens, const int *links, int n, int c) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int first = blockIdx.x;
  if (!links[n + first]) return;
  float *row = dtable + (size_t)tokens[first] * c;
  bool packed = is_packed(dout, c), row_packed = packed && is_packed(row, c);
  for (int at = threadIdx.x * WIDTH; at < c; at += blockDim.x * WIDTH) {
    float sum[WIDTH], x[WIDTH];
    load_f32<WIDTH>(sum, row, at, c, row_packed);
    for (int from = first; from >= 0; from = links[from]) {
      load_floats(x, dout + (size_t)from * c, at, c, packed);
#pragma unroll
      for (int i = 0; i < WIDTH; i++) sum[i] += x[i];
    }
    store_f32<WIDTH>(row, at, c, row_packed, sum);
  }
}

extern "C" __global__ void embedding_backward_bf16(float *dtable, const bf16 *dout, const int *tokens, const int *links, int n, int c) {
  embedding_backward(dtable, dout, tokens, links, n, c);
}
extern "C" __global__ void embedding_backward_f32(float *dtable, const float *dout, const int *tokens, const int *links, int n, int c) {
  embedding_backward(dtable, dout, tokens, links, n, c);
}
