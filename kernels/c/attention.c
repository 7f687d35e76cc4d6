// Attention forward, for training and against a key/value cache (FlashAttention-2, Dao 2023). All queries that share
// keys, those of a group's heads at neighbouring positions, are the columns of one tile, so that the softmax over the
// keys works down the rows, column by column. attention_backward.c has the gradient, attention_decode.c single queries.

#include "attention.h"

#include "attention_tile.h"
#include "vector_math.h"

enum { VECTORS = TILE_COLUMNS / VL };

// Running state of one tile of queries, in scratch memory.
typedef struct {
  int limit[TILE_COLUMNS]; // keys that a query sees
  float max[TILE_COLUMNS], sum[TILE_COLUMNS], factor[TILE_COLUMNS];
  int least[VECTORS], most[VECTORS]; // limits of a vector of queries
  ptrdiff_t d, width;
  float *queries, *out; // width x TILE_COLUMNS
  float *keys, *values; // TILE_DEPTH x width
  float *scores;        // TILE_DEPTH x PANEL
  float *rows;          // TILE_COLUMNS x width
} query_tile;

// Turns scores of `count` keys from `first` on into weights exp(score - max) and moves max, sum and factor on.
TILE_INLINE void weigh_scores(query_tile *s, ptrdiff_t column, ptrdiff_t first, ptrdiff_t count, int masked, int vectors) {
  vf max[PANEL_VECTORS], sum[PANEL_VECTORS];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) max[v] = vf_load(s->max + column + v * VL);
  for (ptrdiff_t k = 0; k < count; k++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      float *at = s->scores + k * PANEL + v * VL;
      vf score = vf_load(at);
      if (masked) {
        vi limit = (vi)vf_load((const float *)s->limit + column + v * VL);
        score = vf_select((vi)(limit > (int)(first + k)), score, vf_set(-__builtin_inff()));
        vf_store(at, score);
      }
      max[v] = vf_max(max[v], score);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    ptrdiff_t at = column + v * VL;
    vf factor = vf_exp(vf_load(s->max + at) - max[v]);
    sum[v] = vf_load(s->sum + at) * factor;
    vf_store(s->factor + at, factor);
    vf_store(s->max + at, max[v]);
  }
  for (ptrdiff_t k = 0; k < count; k++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      float *at = s->scores + k * PANEL + v * VL;
      vf weight = vf_exp(vf_load(at) - max[v]);
      vf_store(at, weight);
      sum[v] += weight;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) vf_store(s->sum + column + v * VL, sum[v]);
}

// Queries of `vectors` vectors from `column` on see `count` keys of the key tile, which begins with key `first`.
TILE_INLINE void attend(query_tile *s, ptrdiff_t column, ptrdiff_t first, ptrdiff_t count, int masked, int vectors) {
  multiply(s->scores, PANEL, s->keys, s->width, s->queries + column, TILE_COLUMNS, count, s->d, vectors);
  if (masked) weigh_scores(s, column, first, count, 1, vectors);
  else weigh_scores(s, column, first, count, 0, vectors);
  add_transposed_product(s->out + column, TILE_COLUMNS, s->values, s->width, s->scores, PANEL, s->d, count, s->factor + column, vectors);
}

static void attend_vectors(query_tile *s, ptrdiff_t column, ptrdiff_t first, ptrdiff_t count, int masked, int vectors) {
  switch (vectors) {
    case 1: attend(s, column, first, count, masked, 1); break;
    case 2: attend(s, column, first, count, masked, 2); break;
    default: attend(s, column, first, count, masked, 3); break;
  }
}

// One panel of queries and the key tile of `count` keys from `first` on.
static void attend_panel(query_tile *s, int vector, int vectors, ptrdiff_t first, ptrdiff_t count) {
  ptrdiff_t least = s->least[vector], most = s->most[vector];
  for (int v = vector + 1; v < vector + vectors; v++) {
    least = smaller(least, s->least[v]);
    most = larger(most, s->most[v]);
  }
  count = smaller(count, most - first);
  if (count <= 0) return;
  int masked = first + count > least;
  if (!masked || VL < SPLIT_WIDTH) {
    attend_vectors(s, vector * VL, first, count, masked, vectors);
    return;
  }
  for (int v = vector; v < vector + vectors; v++) {
    ptrdiff_t visible = smaller(count, s->most[v] - first);
    if (visible > 0) attend_vectors(s, v * VL, first, visible, 1, 1);
  }
}

// Rows of the group's queries: position by position, head by head.
typedef struct {
  const attention_problem *problem;
  ptrdiff_t sequence, kv, group, first;
} query_rows;

static ptrdiff_t row_position(const query_rows *r, ptrdiff_t row) { return (r->first + row) / r->group; }
static ptrdiff_t row_head(const query_rows *r, ptrdiff_t row) { return r->kv * r->group + (r->first + row) % r->group; }

static void load_queries(query_tile *s, const query_rows *r, ptrdiff_t count) {
  const attention_problem *p = r->problem;
  float scale = (float)(1 / __builtin_sqrt((double)p->d));
  ptrdiff_t padded = round_up(count, VL);
  for (ptrdiff_t row = 0; row < padded; row++) {
    float *to = s->rows + row * s->width;
    ptrdiff_t at = smaller(row, count - 1); // columns beyond the last query repeat it
    ptrdiff_t position = r->sequence * p->t + row_position(r, at);
    copy_padded(to, p->queries + position * p->query_stride + row_head(r, at) * p->d, p->d, s->width, scale);
    s->limit[row] = p->positions ? p->positions[position] + 1 : (int)row_position(r, at) + 1;
    s->max[row] = -__builtin_inff();
    s->sum[row] = 0;
    int v = (int)(row / VL);
    if (row % VL == 0 || s->limit[row] < s->least[v]) s->least[v] = s->limit[row];
    if (row % VL == 0 || s->limit[row] > s->most[v]) s->most[v] = s->limit[row];
  }
  transpose_tile(s->queries, TILE_COLUMNS, s->rows, s->width, padded, s->width);
  for (ptrdiff_t j = 0; j < s->width * TILE_COLUMNS; j += VL) vf_store(s->out + j, vf_set(0));
}

static void store_out(query_tile *s, const query_rows *r, ptrdiff_t count) {
  const attention_problem *p = r->problem;
  ptrdiff_t padded = round_up(count, VL);
  for (ptrdiff_t column = 0; column < padded; column += VL) {
    vf factor = 1.0f / vf_load(s->sum + column);
    for (ptrdiff_t j = 0; j < s->width; j++) {
      float *at = s->out + j * TILE_COLUMNS + column;
      vf_store(at, vf_load(at) * factor);
    }
  }
  transpose_tile(s->rows, s->width, s->out, TILE_COLUMNS, s->width, padded);
  for (ptrdiff_t row = 0; row < count; row++) {
    ptrdiff_t t = row_position(r, row), head = row_head(r, row);
    float *to = p->out + ((r->sequence * p->t + t) * p->h + head) * p->d;
    __builtin_memcpy(to, s->rows + row * s->width, (size_t)p->d * 4);
    if (p->lse) p->lse[(r->sequence * p->h + head) * p->t + t] = s->max[row] + (float)log_of(s->sum[row]);
  }
}

static void attend_rows(query_tile *s, const query_rows *r) {
  const attention_problem *p = r->problem;
  ptrdiff_t count = smaller(TILE_COLUMNS, p->t * r->group - r->first), vectors = quotient_up(count, VL), most = 0;
  load_queries(s, r, count);
  for (ptrdiff_t v = 0; v < vectors; v++) most = larger(most, s->most[v]);
  ptrdiff_t at = r->sequence * p->sequence_stride + r->kv * p->head_stride;
  for (ptrdiff_t first = 0; first < most; first += TILE_DEPTH) {
    ptrdiff_t keys = smaller(TILE_DEPTH, most - first), padded = round_up(keys, ROW_UNIT);
    copy_rows(s->keys, s->width, p->keys + at + first * p->slot_stride, p->slot_stride, p->d, keys, padded, 1);
    copy_rows(s->values, s->width, p->values + at + first * p->slot_stride, p->slot_stride, p->d, keys, padded, 1);
    for (ptrdiff_t v = 0; v < vectors; v += PANEL_VECTORS)
      attend_panel(s, (int)v, (int)smaller(PANEL_VECTORS, vectors - v), first, keys);
  }
  store_out(s, r, count);
}

static void forward_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  const attention_problem *p = args;
  ptrdiff_t group = p->h / p->k, pairs = p->b * p->k, tiles = quotient_up(p->t * group, TILE_COLUMNS);
  query_tile *s = tl_scratch(ctx, worker);
  s->d = p->d;
  s->width = padded_width(p->d);
  s->queries = (float *)((char *)s + round_up(sizeof *s, 64));
  s->out = s->queries + s->width * TILE_COLUMNS;
  s->rows = s->out + s->width * TILE_COLUMNS;
  s->keys = s->rows + s->width * TILE_COLUMNS;
  s->values = s->keys + s->width * TILE_DEPTH;
  s->scores = s->values + s->width * TILE_DEPTH;
  for (ptrdiff_t index = begin; index < end; index++) {
    ptrdiff_t pair = index % pairs;
    // The last tiles, which see most keys, come first, so that threads end together.
    query_rows r = {p, pair / p->k, pair % p->k, group, (tiles - 1 - index / pairs) * TILE_COLUMNS};
    attend_rows(s, &r);
  }
}

static void forward(tl_context *ctx, const attention_problem *p) {
  ptrdiff_t tiles = quotient_up(p->t * (p->h / p->k), TILE_COLUMNS);
  tl_parallel(ctx, forward_task, p, p->b * p->k * tiles, 1);
}

TL_EXPORT void attention_forward(tl_context *ctx, float *out, float *lse, const float *qkv, int b, int t, int h, int k, int d) {
  ptrdiff_t stride = (ptrdiff_t)(h + 2 * k) * d;
  attention_problem problem = {
    .out = out, .lse = lse,
    .queries = qkv, .keys = qkv + (ptrdiff_t)h * d, .values = qkv + (ptrdiff_t)(h + k) * d,
    .b = b, .t = t, .h = h, .k = k, .d = d,
    .query_stride = stride, .sequence_stride = t * stride, .head_stride = d, .slot_stride = stride,
  };
  forward(ctx, &problem);
}

TL_EXPORT void attention_cached(tl_context *ctx, float *out, const float *qkv, const float *keys, const float *values, const int *positions, int b, int t, int h, int k, int d, int s) {
  attention_problem problem = {
    .out = out,
    .queries = qkv, .keys = keys, .values = values, .positions = positions,
    .b = b, .t = t, .h = h, .k = k, .d = d,
    .query_stride = (ptrdiff_t)(h + 2 * k) * d,
    .sequence_stride = (ptrdiff_t)k * s * d, .head_stride = (ptrdiff_t)s * d, .slot_stride = d,
  };
  if (t == 1) tl_attention_decode(ctx, &problem);
  else forward(ctx, &problem);
}
