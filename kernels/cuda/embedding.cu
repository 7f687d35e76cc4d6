// Rows of a table by token id, and the gradient of that. Forward: several packs a thread on their way at once. Backward: the
// rows are sorted by token first, equal tokens in ascending order, without comparing each with each; then blocks add up equal
// chunks of that order, whatever the tokens are, and what a chunk adds to a token of the chunk before it is added last.

#include "elements.cuh"

constexpr int COPIED = 4; // packs of a thread at a time

template <typename T>
DEVICE constexpr int dtype_of();
template <>
DEVICE constexpr int dtype_of<float>() { return F32; }
template <>
DEVICE constexpr int dtype_of<bf16>() { return BF16; }

template <typename T>
DEVICE void copy_row(T *to, const T *from, int c) {
  constexpr int WIDTH = Pack<T>::WIDTH;
  int stride = blockDim.x * WIDTH;
  for (int first = threadIdx.x * WIDTH; first < c; first += COPIED * stride) {
    Pack<T> packs[COPIED];
#pragma unroll
    for (int k = 0; k < COPIED; k++)
      if (first + k * stride < c) packs[k] = load_pack(from, first + k * stride, c, true);
#pragma unroll
    for (int k = 0; k < COPIED; k++)
      if (first + k * stride < c) store_pack(to, first + k * stride, c, true, packs[k]);
  }
}

template <typename T>
DEVICE void embedding_forward(T *out, const int *tokens, const void *table, int dtype, int n, int c) {
  begin_dependent();
  int index = block_row();
  if (index >= n) return;
  size_t from = (size_t)tokens[index] * c;
  T *row = out + (size_t)index * c;
  bool packed = is_packed(row, c);
  if (packed && dtype == dtype_of<T>() && (uintptr_t)table % 16 == 0) return copy_row(row, (const T *)table + from, c);
  for (int at = threadIdx.x * DECODED; at < c; at += blockDim.x * DECODED) {
    float x[DECODED];
    decode_elements(x, table, dtype, from + at, min(DECODED, c - at));
#pragma unroll
    for (int i = 0; i < DECODED; i += Pack<T>::WIDTH) store_floats(row, at + i, c, packed && at + i < c, x + i);
  }
}

extern "C" __global__ void embedding_forward_bf16(bf16 *out, const int *tokens, const void *table, int dtype, int n, int c) {
  embedding_forward(out, tokens, table, dtype, n, c);
}
extern "C" __global__ void embedding_forward_f32(float *out, const int *tokens, const void *table, int dtype, int n, int c) {
  embedding_forward(out, tokens, table, dtype, n, c);
}

constexpr int ORDER_THREADS = 1024;
constexpr int ORDER_WARPS = ORDER_THREADS / WARP;
constexpr int BINS = 256; // tokens whose rows one block places

// What a warp does with its part of the tokens, in order: visit(row, bin), the bin outside 0 ... BINS - 1 where the token is
// another block's. All lanes come, the row is n where there is none.
template <typename Visit>
DEVICE void each_token(const int *tokens, int n, Visit visit) {
  constexpr int BATCH = 4;
  int stretch = (n + ORDER_THREADS - 1) / ORDER_THREADS * WARP, begin = threadIdx.x / WARP * stretch;
  int end = min(begin + stretch, n), lane = threadIdx.x % WARP, first_token = blockIdx.x * BINS;
  for (int first = begin; first < end; first += BATCH * WARP) {
    int found[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
      int row = first + i * WARP + lane;
      found[i] = row < end ? tokens[row] - first_token : BINS;
    }
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
      int row = first + i * WARP + lane;
      visit(row < end ? row : n, found[i]);
    }
  }
}

// order (N): rows sorted by token, those of one token ascending; sorted (N): their tokens.
extern "C" __global__ void __launch_bounds__(ORDER_THREADS) embedding_order(int *order, int *sorted, const int *tokens, int n) {
  __shared__ int places[ORDER_WARPS][BINS], warp_totals[BINS / WARP];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, bin = threadIdx.x, lower = 0;
#pragma unroll
  for (int i = lane; i < BINS; i += WARP) places[warp][i] = 0;
  __syncwarp();
  each_token(tokens, n, [&](int, int found) {
    if (found < 0) lower++;
    else if (found < BINS) atomicAdd(&places[warp][found], 1);
  });
  int start = row_sum(lower), count = 0; // its barriers stand between counting and what follows
  __syncthreads();
  if (bin < BINS)
    for (int w = 0; w < ORDER_WARPS; w++) count += places[w][bin];
  int upto = count;
  for (int distance = 1; distance < WARP; distance *= 2) {
    int before = __shfl_up_sync(ALL_LANES, upto, distance);
    if (lane >= distance) upto += before;
  }
  if (bin < BINS && lane == WARP - 1) warp_totals[warp] = upto;
  __syncthreads();
  if (bin < BINS) {
    start += upto - count;
    for (int w = 0; w < warp; w++) start += warp_totals[w];
    for (int w = 0; w < ORDER_WARPS; w++) {
      int of_warp = places[w][bin];
      places[w][bin] = start;
      start += of_warp;
    }
  }
  __syncthreads();
  each_token(tokens, n, [&](int row, int found) {
    bool is_here = found >= 0 && found < BINS;
    unsigned same = __ballot_sync(ALL_LANES, is_here);
    if (same == 0) return;
#pragma unroll
    for (int bit = 1; bit < BINS; bit *= 2) {
      unsigned set = __ballot_sync(ALL_LANES, (found & bit) != 0);
      same &= found & bit ? set : ~set;
    }
    int place = is_here ? places[warp][found] : 0, rank = __popc(same & ((1u << lane) - 1));
    __syncwarp();
    if (is_here) {
      order[place + rank] = row;
      sorted[place + rank] = blockIdx.x * BINS + found;
      if (rank == 0) places[warp][found] = place + __popc(same);
    }
    __syncwarp();
  });
}

constexpr int MOST_CHUNK = 64; // rows of a chunk at most
constexpr int ADDED = 4;       // rows of a chunk that are on their way together
constexpr int COLUMNS = 4;     // of a thread at a time

// Four neighbouring numbers of a row as they lie there: converting them at once would be waiting for them.
template <typename T>
struct Four {
  Pack<T> pack; // of bf16 the first half

  DEVICE float number(int i) const { return pack.number(i); }
  DEVICE void load(const float *row, int at, int c, bool packed) { pack = load_pack(row, at, c, packed); }
  DEVICE void load(const bf16 *row, int at, int c, bool packed) {
    if (packed) {
      uint2 words = *(const uint2 *)(row + at);
      pack.words[0] = words.x;
      pack.words[1] = words.y;
      return;
    }
    pack = Pack<T>{{0, 0, 0, 0}};
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
      if (at + i < c) pack.set(i, row[at + i]);
  }
};

// A chunk of the sorted rows. tokens[0] is that of the row before it, -1 where there is none, as behind the last one.
struct Chunk {
  int length, rows[MOST_CHUNK], tokens[MOST_CHUNK + 2];

  DEVICE bool is_same(int i) const { return tokens[i] == tokens[i + 1]; } // the token of row i and that of the row before it
};

// dtable += the chunk's rows, but partial (chunks, C) = what belongs to the last token of the chunk before.
template <typename T>
DEVICE void embedding_backward(float *dtable, float *partial, const T *dout, const int *order, const int *sorted, int n, int c, int chunk_rows) {
  __shared__ Chunk chunk;
  int first = blockIdx.x * chunk_rows, length = min(chunk_rows, n - first);
  for (int i = threadIdx.x; i < length + 2; i += blockDim.x) {
    int at = first + i - 1;
    chunk.tokens[i] = at >= 0 && at < n ? sorted[at] : -1;
    if (i < length) chunk.rows[i] = order[first + i];
  }
  __syncthreads();
  bool packed = c % COLUMNS == 0 && (uintptr_t)dout % 16 == 0, table_packed = is_packed(dtable, c);
  for (int at = threadIdx.x * COLUMNS; at < c; at += blockDim.x * COLUMNS) {
    float sum[COLUMNS] = {0};
    for (int begin = 0; begin < length; begin += ADDED) {
      Four<T> x[ADDED];
      Pack<float> old[ADDED];
#pragma unroll
      for (int k = 0; k < ADDED; k++) {
        int i = begin + k;
        if (i >= length) continue;
        x[k].load(dout + (size_t)chunk.rows[i] * c, at, c, packed);
        old[k] = Pack<float>{{0, 0, 0, 0}};
        if (!chunk.is_same(i)) old[k] = load_pack(dtable + (size_t)chunk.tokens[i + 1] * c, at, c, table_packed);
      }
#pragma unroll
      for (int k = 0; k < ADDED; k++) {
        int i = begin + k;
        if (i >= length) continue;
        bool is_first = !chunk.is_same(i), is_last = i == length - 1 || !chunk.is_same(i + 1);
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) sum[j] = (is_first ? old[k].number(j) : sum[j]) + x[k].number(j);
        if (!is_last) continue;
        bool is_earlier = chunk.tokens[0] == chunk.tokens[i + 1];
        float *to = is_earlier ? partial + (size_t)blockIdx.x * c : dtable + (size_t)chunk.tokens[i + 1] * c;
        store_floats(to, at, c, table_packed, sum);
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(1024) embedding_backward_bf16(float *dtable, float *partial, const bf16 *dout, const int *order, const int *sorted, int n, int c, int chunk_rows) {
  embedding_backward(dtable, partial, dout, order, sorted, n, c, chunk_rows);
}
extern "C" __global__ void __launch_bounds__(1024) embedding_backward_f32(float *dtable, float *partial, const float *dout, const int *order, const int *sorted, int n, int c, int chunk_rows) {
  embedding_backward(dtable, partial, dout, order, sorted, n, c, chunk_rows);
}

// dtable += the partial sums of tokens whose rows fill several chunks: a block a chunk, at work where such a token's first
// partial sum is.
extern "C" __global__ void __launch_bounds__(1024) embedding_add_partial(float *dtable, const float *partial, const int *sorted, int n, int c, int chunk_rows) {
  auto is_continued = [&](int chunk) {
    int first = chunk * chunk_rows;
    return first > 0 && first < n && sorted[first - 1] == sorted[first];
  };
  int chunk = blockIdx.x;
  if (!is_continued(chunk)) return;
  int token = sorted[chunk * chunk_rows], end = chunk + 1;
  if (is_continued(chunk - 1) && sorted[(chunk - 1) * chunk_rows] == token) return;
  while (is_continued(end) && sorted[end * chunk_rows] == token) end++;
  float *row = dtable + (size_t)token * c;
  bool packed = is_packed(dtable, c) && is_packed(partial, c);
  for (int at = threadIdx.x * COLUMNS; at < c; at += blockDim.x * COLUMNS) {
    float sum[COLUMNS], x[COLUMNS];
    load_floats(sum, row, at, c, packed);
#pragma unroll 4
    for (int one = chunk; one < end; one++) {
      load_floats(x, partial + (size_t)one * c, at, c, packed);
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) sum[j] += x[j];
    }
    store_floats(row, at, c, packed, sum);
  }
}
