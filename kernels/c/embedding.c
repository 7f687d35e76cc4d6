// Rows of a table by token id, and the gradient of that. The gradient adds the rows of one token in ascending order, so
// tokens are first sorted into chains; then each thread owns some of the chains and with them their table rows.

#include "elements.h"
#include "threads.h"

enum {
  GRAIN_ELEMENTS = 1 << 14,
  MAX_CHAINS = 1 << 16,
  MAX_CHAINED = TL_SHARED_BYTES / sizeof(int) - MAX_CHAINS, // rows in one pass
  CHAIN_GRAIN = 64,
};

typedef struct {
  float *out;
  const int *tokens;
  const void *table;
  int dtype;
  ptrdiff_t c;
} forward_args;

static void forward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const forward_args *a = args;
  for (ptrdiff_t n = begin; n < end; n++)
    decode_elements(a->out + n * a->c, a->table, a->dtype, (size_t)a->tokens[n] * (size_t)a->c, (size_t)a->c);
}

TL_EXPORT void embedding_forward(tl_context *ctx, float *out, const int *tokens, const void *table, int table_dtype, int n, int c) {
  forward_args a = {out, tokens, table, table_dtype, c};
  tl_parallel(ctx, forward_task, &a, n, GRAIN_ELEMENTS / (c + 1) + 1);
}

typedef struct {
  float *dtable;
  const float *dout;
  const int *tokens;
  ptrdiff_t c;
  const int *first; // first row of each chain, or -1
  const int *next;  // the following row of a row's chain, or -1
} backward_args;

static void add_row(float *sum, const float *x, ptrdiff_t c) {
  ptrdiff_t j = 0;
  for (; j + VL <= c; j += VL) vf_store(sum + j, vf_load(sum + j) + vf_load(x + j));
  for (; j < c; j++) sum[j] += x[j];
}

static void backward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const backward_args *a = args;
  for (ptrdiff_t chain = begin; chain < end; chain++)
    for (ptrdiff_t n = a->first[chain]; n >= 0; n = a->next[n])
      add_row(a->dtable + a->tokens[n] * a->c, a->dout + n * a->c, a->c);
}

TL_EXPORT void embedding_backward(tl_context *ctx, float *dtable, const float *dout, const int *tokens, int n, int c, int v) {
  int chains = v < MAX_CHAINS ? v : MAX_CHAINS;
  int *first = tl_shared(ctx), *next = first + chains;
  for (ptrdiff_t done = 0; done < n; done += MAX_CHAINED) {
    int rows = n - done < MAX_CHAINED ? (int)(n - done) : MAX_CHAINED;
    backward_args a = {dtable, dout + done * c, tokens + done, c, first, next};
    for (int chain = 0; chain < chains; chain++) first[chain] = -1;
    for (int row = rows - 1; row >= 0; row--) {
      int chain = a.tokens[row] % chains;
      next[row] = first[chain];
      first[chain] = row;
    }
    tl_parallel(ctx, backward_task, &a, chains, CHAIN_GRAIN);
  }
}
