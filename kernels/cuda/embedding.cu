// Rows of a table by token id, and the gradient of that. Forward: a block a token, 16 bytes a thread. Backward: rows of one
// token are added in ascending order by one block, without atomics; `links` chains them first (N² comparisons of one or two
// instructions each, which for the tens of thousands of rows of a micro batch take less than the additions).

#include "elements.cuh"

constexpr int LINK_THREADS = 128;
constexpr int LINK_TILE = 1024; // tokens
constexpr int LANES = 4;        // comparisons that do not wait for each other

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

// The nearest later row of a thread's token, and whether there is an earlier one, each in LANES parts.
struct Links {
  int row, token, next[LANES];
  bool has_earlier[LANES];

  // Tokens of rows first ... first + LINK_TILE - 1, in descending order; LATER and EARLIER: whether some may be such.
  template <bool LATER, bool EARLIER>
  DEVICE void compare(const int *tile, int first) {
#pragma unroll 8
    for (int i = LINK_TILE - LANES; i >= 0; i -= LANES) {
      int4 tokens = *(const int4 *)(tile + i);
      int of_lane[LANES] = {tokens.x, tokens.y, tokens.z, tokens.w};
#pragma unroll
      for (int lane = 0; lane < LANES; lane++) {
        int other = first + i + lane;
        bool is_same = of_lane[lane] == token;
        if (LATER && is_same && (!EARLIER || other > row)) next[lane] = other;
        if (EARLIER && is_same && (!LATER || other < row)) has_earlier[lane] = true;
      }
    }
  }
};

// links (2, N): the next row of the same token or -1; and 1 where no earlier row has the token, otherwise 0.
extern "C" __global__ void __launch_bounds__(LINK_THREADS) embedding_links(int *links, const int *tokens, int n) {
  __shared__ alignas(16) int tile[LINK_TILE];
  int first_row = blockIdx.x * LINK_THREADS, row = first_row + threadIdx.x;
  Links found = {row, row < n ? tokens[row] : -1, {n, n, n, n}, {false, false, false, false}};
  for (int first = (n - 1) / LINK_TILE * LINK_TILE; first >= 0; first -= LINK_TILE) {
    __syncthreads();
#pragma unroll
    for (int i = threadIdx.x; i < LINK_TILE; i += LINK_THREADS) tile[i] = first + i < n ? tokens[first + i] : -1;
    __syncthreads();
    if (first >= first_row + LINK_THREADS) found.compare<true, false>(tile, first);
    else if (first + LINK_TILE <= first_row) found.compare<false, true>(tile, first);
    else found.compare<true, true>(tile, first);
  }
  if (row >= n) return;
  int next = min(min(found.next[0], found.next[1]), min(found.next[2], found.next[3]));
  bool has_earlier = found.has_earlier[0] || found.has_earlier[1] || found.has_earlier[2] || found.has_earlier[3];
  links[row] = next < n ? next : -1;
  links[n + row] = has_earlier ? 0 : 1;
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
