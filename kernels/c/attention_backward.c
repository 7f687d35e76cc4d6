// Attention backward (FlashAttention-2, Dao 2023), the gradient of attention.c's forward pass. Keys are the columns of a
// tile, the queries of a group's heads at neighbouring positions its rows. One range owns a key/value head and some of
// its query heads, so that every sum has one order and one writer.

#include "attention_tile.h"
#include "vector_math.h"

enum {
  WANTED_RANGES = 16,
  SUM_GRAIN = 16, // positions
};

typedef struct {
  float *dqkv;
  const float *dout, *qkv, *out, *lse;
  ptrdiff_t t, h, k, d, stride; // of a position in qkv, elements
  ptrdiff_t heads, chunks;         // query heads of one range, ranges of one key/value head
  ptrdiff_t first_pair;            // (sequence, key/value head) pair this wave begins with
  float *deltas;                   // (pairs, chunks, t, heads)
  float *partials;                 // (pairs, chunks, t, [dK, dV], d) when there are several chunks
} backward_problem;

// One range and its tiles, in scratch memory.
typedef struct {
  const backward_problem *p;
  ptrdiff_t sequence, kv, head, heads;
  float *deltas, *partial;
  ptrdiff_t width;
  float *keys;                               // TILE_COLUMNS x width, scaled
  float *transposed_keys, *transposed_values; // width x TILE_COLUMNS, the keys scaled
  float *dkeys, *dvalues;                    // likewise
  float *queries, *dout, *dqueries;          // TILE_DEPTH x width
  float *weights;                            // TILE_DEPTH x PANEL
  float *dscores;                            // TILE_DEPTH x TILE_COLUMNS
  float *rows;                               // TILE_COLUMNS x width
  float lse[TILE_DEPTH], delta[TILE_DEPTH];
} backward_range;

// Row `row` of the range's queries, position by position and head by head.
static ptrdiff_t row_position(const backward_range *r, ptrdiff_t row) { return r->sequence * r->p->t + row / r->heads; }
static ptrdiff_t row_head(const backward_range *r, ptrdiff_t row) { return r->head + row % r->heads; }
static ptrdiff_t query_at(const backward_range *r, ptrdiff_t row) {
  return row_position(r, row) * r->p->stride + row_head(r, row) * r->p->d;
}
static ptrdiff_t out_at(const backward_range *r, ptrdiff_t row) {
  return (row_position(r, row) * r->p->h + row_head(r, row)) * r->p->d;
}

// deltas[row] = Σ dout · out, which is Σ weight · dweight of the row's softmax.
static void compute_deltas(const backward_range *r) {
  for (ptrdiff_t row = 0; row < r->p->t * r->heads; row++) {
    const float *a = r->p->dout + out_at(r, row), *b = r->p->out + out_at(r, row);
    vf acc = vf_set(0);
    ptrdiff_t j = 0;
    for (; j + VL <= r->p->d; j += VL) acc = vf_fma(vf_load(a + j), vf_load(b + j), acc);
    float sum = vf_sum(acc);
    for (; j < r->p->d; j++) sum += a[j] * b[j];
    r->deltas[row] = sum;
  }
}

static void load_keys(backward_range *r, ptrdiff_t first, ptrdiff_t count) {
  const backward_problem *p = r->p;
  ptrdiff_t d = p->d, padded = round_up(count, VL);
  const float *keys = p->qkv + (r->sequence * p->t + first) * p->stride + (p->h + r->kv) * d;
  const float *values = keys + p->k * d;
  copy_rows(r->keys, r->width, keys, p->stride, d, count, padded, (float)(1 / __builtin_sqrt((double)d)));
  copy_rows(r->rows, r->width, values, p->stride, d, count, padded, 1);
  transpose_tile(r->transposed_keys, TILE_COLUMNS, r->keys, r->width, padded, r->width);
  transpose_tile(r->transposed_values, TILE_COLUMNS, r->rows, r->width, padded, r->width);
  for (ptrdiff_t j = 0; j < r->width * TILE_COLUMNS; j += VL) {
    vf_store(r->dkeys + j, vf_set(0));
    vf_store(r->dvalues + j, vf_set(0));
  }
}

static void load_queries(backward_range *r, ptrdiff_t first, ptrdiff_t count) {
  const backward_problem *p = r->p;
  for (ptrdiff_t i = 0; i < count; i++) {
    ptrdiff_t row = first + i;
    copy_padded(r->queries + i * r->width, p->qkv + query_at(r, row), p->d, r->width, 1);
    copy_padded(r->dout + i * r->width, p->dout + out_at(r, row), p->d, r->width, 1);
    r->lse[i] = p->lse[(r->sequence * p->h + row_head(r, row)) * p->t + row / r->heads];
    r->delta[i] = r->deltas[row];
  }
  for (ptrdiff_t j = count * r->width; j < round_up(count, ROW_UNIT) * r->width; j += VL) {
    vf_store(r->queries + j, vf_set(0));
    vf_store(r->dout + j, vf_set(0));
  }
}

// Scores and dweights become weights and dscores. Row i sees the columns below limit + (first_row + i) / heads.
TILE_INLINE void differentiate(backward_range *r, ptrdiff_t column, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t first_row, ptrdiff_t first_key, int masked, int vectors) {
  vi lane;
  for (int l = 0; l < VL; l++) lane[l] = l;
  for (ptrdiff_t i = begin; i < end; i++) {
    vf lse = vf_set(r->lse[i]), delta = vf_set(r->delta[i]);
    int last = masked ? (int)((first_row + i) / r->heads - first_key - column) : 0;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      float *weights = r->weights + i * PANEL + v * VL, *dscores = r->dscores + i * TILE_COLUMNS + column + v * VL;
      vf weight = vf_exp(vf_load(weights) - lse);
      if (masked) weight = (vf)((vi)weight & (vi)(lane <= last - v * VL));
      vf_store(weights, weight);
      vf_store(dscores, weight * (vf_load(dscores) - delta));
    }
  }
}

// Queries begin ... count of the query tile and the keys of `vectors` vectors from `column` on: dK, dV and the dscores.
TILE_INLINE void differentiate_panel(backward_range *r, ptrdiff_t column, ptrdiff_t begin, ptrdiff_t count, ptrdiff_t first_row, ptrdiff_t first_key, int masked, int vectors) {
  ptrdiff_t at = begin * r->width, d = r->p->d;
  float *dscores = r->dscores + begin * TILE_COLUMNS + column;
  multiply(r->weights + begin * PANEL, PANEL, r->queries + at, r->width, r->transposed_keys + column, TILE_COLUMNS, count - begin, d, vectors);
  multiply(dscores, TILE_COLUMNS, r->dout + at, r->width, r->transposed_values + column, TILE_COLUMNS, count - begin, d, vectors);
  ptrdiff_t end = round_up(count, ROW_UNIT);
  if (masked) differentiate(r, column, begin, end, first_row, first_key, 1, vectors);
  else differentiate(r, column, begin, end, first_row, first_key, 0, vectors);
  add_transposed_product(r->dvalues + column, TILE_COLUMNS, r->dout + at, r->width, r->weights + begin * PANEL, PANEL, d, count - begin, 0, vectors);
  add_transposed_product(r->dkeys + column, TILE_COLUMNS, r->queries + at, r->width, dscores, TILE_COLUMNS, d, count - begin, 0, vectors);
}

static void differentiate_vectors(backward_range *r, ptrdiff_t column, ptrdiff_t begin, ptrdiff_t count, ptrdiff_t first_row, ptrdiff_t first_key, int masked, int vectors) {
  switch (vectors) {
    case 1: differentiate_panel(r, column, begin, count, first_row, first_key, masked, 1); break;
    case 2: differentiate_panel(r, column, begin, count, first_row, first_key, masked, 2); break;
    default: differentiate_panel(r, column, begin, count, first_row, first_key, masked, 3); break;
  }
}

// dQ of the query tile: its dscores, which are defined for the first widths[i / ROW_UNIT] columns, times the keys.
static void add_dqueries(backward_range *r, const int *widths, ptrdiff_t count, ptrdiff_t first_row, int fresh) {
  const backward_problem *p = r->p;
  ptrdiff_t vectors = quotient_up(p->d, VL);
  for (ptrdiff_t i = 0; i < count; i += ROW_UNIT) {
    const float *dscores = r->dscores + i * TILE_COLUMNS;
    ptrdiff_t depth = widths[i / ROW_UNIT];
    for (ptrdiff_t v = 0; v < vectors; v += PANEL_VECTORS) {
      float *to = r->dqueries + i * r->width + v * VL;
      switch (vectors - v) {
        case 1: multiply(to, r->width, dscores, TILE_COLUMNS, r->keys + v * VL, r->width, ROW_UNIT, depth, 1); break;
        case 2: multiply(to, r->width, dscores, TILE_COLUMNS, r->keys + v * VL, r->width, ROW_UNIT, depth, 2); break;
        default: multiply(to, r->width, dscores, TILE_COLUMNS, r->keys + v * VL, r->width, ROW_UNIT, depth, 3); break;
      }
    }
  }
  for (ptrdiff_t i = 0; i < count; i++) {
    float *to = p->dqkv + query_at(r, first_row + i);
    const float *from = r->dqueries + i * r->width;
    ptrdiff_t j = 0;
    for (; j + VL <= p->d; j += VL) vf_store(to + j, fresh ? vf_load(from + j) : vf_load(to + j) + vf_load(from + j));
    for (; j < p->d; j++) to[j] = fresh ? from[j] : to[j] + from[j];
  }
}

// The query tile of `count` rows from `first_row` on and the key tile of `keys` keys from `first_key` on.
static void differentiate_tile(backward_range *r, ptrdiff_t first_row, ptrdiff_t count, ptrdiff_t first_key, ptrdiff_t keys) {
  int widths[TILE_DEPTH / ROW_UNIT] = {0};
  ptrdiff_t vectors = quotient_up(keys, VL);
  load_queries(r, first_row, count);
  for (ptrdiff_t v = 0; v < vectors;) {
    ptrdiff_t taken = smaller(PANEL_VECTORS, vectors - v);
    ptrdiff_t last_key = first_key + (v + taken) * VL - 1;
    int masked = last_key > first_row / r->heads;
    if (masked && VL >= SPLIT_WIDTH) taken = 1;
    // The first row that sees the panel's first key.
    ptrdiff_t begin = larger(0, (first_key + v * VL) * r->heads - first_row) / ROW_UNIT * ROW_UNIT;
    if (begin >= count) break;
    differentiate_vectors(r, v * VL, begin, count, first_row, first_key, masked, (int)taken);
    v += taken;
    for (ptrdiff_t i = begin / ROW_UNIT; i < TILE_DEPTH / ROW_UNIT; i++) widths[i] = (int)(v * VL);
  }
  add_dqueries(r, widths, count, first_row, first_key == 0);
}

// Writes dK and dV of a key tile to dqkv, or to the range's partial sums.
static void store_dkeys(backward_range *r, ptrdiff_t first, ptrdiff_t count) {
  const backward_problem *p = r->p;
  ptrdiff_t d = p->d, padded = round_up(count, VL);
  ptrdiff_t stride = r->partial ? 2 * d : p->stride, values_at = r->partial ? d : p->k * d;
  float *to = r->partial ? r->partial + first * stride : p->dqkv + (r->sequence * p->t + first) * stride + (p->h + r->kv) * d;
  float scale = (float)(1 / __builtin_sqrt((double)d));
  transpose_tile(r->rows, r->width, r->dkeys, TILE_COLUMNS, r->width, padded);
  for (ptrdiff_t k = 0; k < count; k++) copy_padded(to + k * stride, r->rows + k * r->width, d, 0, scale);
  transpose_tile(r->rows, r->width, r->dvalues, TILE_COLUMNS, r->width, padded);
  for (ptrdiff_t k = 0; k < count; k++) copy_padded(to + k * stride + values_at, r->rows + k * r->width, d, 0, 1);
}

static backward_range *range_scratch(tl_context *ctx, const backward_problem *p, int worker) {
  backward_range *r = tl_scratch(ctx, worker);
  r->p = p;
  r->width = padded_width(p->d);
  float *memory = (float *)((char *)r + round_up(sizeof *r, 64));
  ptrdiff_t columns = r->width * TILE_COLUMNS, depth = r->width * TILE_DEPTH;
  r->keys = memory;
  r->transposed_keys = r->keys + columns;
  r->transposed_values = r->transposed_keys + columns;
  r->dkeys = r->transposed_values + columns;
  r->dvalues = r->dkeys + columns;
  r->rows = r->dvalues + columns;
  r->queries = r->rows + columns;
  r->dout = r->queries + depth;
  r->dqueries = r->dout + depth;
  r->weights = r->dqueries + depth;
  r->dscores = r->weights + TILE_DEPTH * PANEL;
  return r;
}

static void backward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  const backward_problem *p = args;
  backward_range *r = range_scratch(ctx, p, worker);
  for (ptrdiff_t index = begin; index < end; index++) {
    ptrdiff_t pair = p->first_pair + index / p->chunks, chunk = index % p->chunks, group = p->h / p->k;
    r->sequence = pair / p->k;
    r->kv = pair % p->k;
    r->head = r->kv * group + chunk * p->heads;
    r->heads = smaller(p->heads, group - chunk * p->heads);
    r->deltas = p->deltas + index * p->t * p->heads;
    r->partial = p->partials ? p->partials + index * p->t * 2 * p->d : 0;
    compute_deltas(r);
    for (ptrdiff_t key = 0; key < p->t; key += TILE_COLUMNS) {
      ptrdiff_t keys = smaller(TILE_COLUMNS, p->t - key), rows = p->t * r->heads;
      load_keys(r, key, keys);
      for (ptrdiff_t row = key * r->heads; row < rows; row += TILE_DEPTH)
        differentiate_tile(r, row, smaller(TILE_DEPTH, rows - row), key, keys);
      store_dkeys(r, key, keys);
    }
  }
}

// dK and dV of position `index` of the wave are the sums of its ranges' partial sums, in order.
static void sum_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const backward_problem *p = args;
  ptrdiff_t d = p->d;
  for (ptrdiff_t index = begin; index < end; index++) {
    ptrdiff_t pair = p->first_pair + index / p->t, t = index % p->t;
    const float *from = p->partials + (index / p->t * p->chunks * p->t + t) * 2 * d;
    float *dkey = p->dqkv + (pair / p->k * p->t + t) * p->stride + (p->h + pair % p->k) * d, *dvalue = dkey + p->k * d;
    for (ptrdiff_t j = 0; j < d; j++) {
      float key = from[j], value = from[d + j];
      for (ptrdiff_t chunk = 1; chunk < p->chunks; chunk++) {
        key += from[chunk * p->t * 2 * d + j];
        value += from[chunk * p->t * 2 * d + d + j];
      }
      dkey[j] = key;
      dvalue[j] = value;
    }
  }
}

TL_EXPORT void attention_backward(tl_context *ctx, float *dqkv, const float *dout, const float *qkv, const float *out, const float *lse, int b, int t, int h, int k, int d) {
  backward_problem p = {
    .dqkv = dqkv, .dout = dout, .qkv = qkv, .out = out, .lse = lse,
    .t = t, .h = h, .k = k, .d = d, .stride = (ptrdiff_t)(h + 2 * k) * d,
  };
  // A key/value head is divided by its query heads when there are few: by the shape, not by the number of threads.
  ptrdiff_t group = h / k, pairs = (ptrdiff_t)b * k;
  p.heads = quotient_up(group, smaller(group, quotient_up(WANTED_RANGES, pairs)));
  p.chunks = quotient_up(group, p.heads);
  ptrdiff_t deltas = p.chunks * p.heads * t, partials = p.chunks > 1 ? p.chunks * t * 2 * d : 0;
  if ((deltas + partials) * 4 > TL_SHARED_BYTES) { // a sequence of very many positions
    p.heads = group;
    p.chunks = 1;
    deltas = group * t;
    partials = 0;
  }
  ptrdiff_t wave = larger(1, smaller(pairs, TL_SHARED_BYTES / 4 / (deltas + partials)));
  p.deltas = tl_shared(ctx);
  p.partials = partials > 0 ? p.deltas + wave * deltas : 0;
  for (p.first_pair = 0; p.first_pair < pairs; p.first_pair += wave) {
    ptrdiff_t count = smaller(wave, pairs - p.first_pair);
    tl_parallel(ctx, backward_task, &p, count * p.chunks, 1);
    if (partials > 0) tl_parallel(ctx, sum_task, &p, count * t, SUM_GRAIN);
  }
}
