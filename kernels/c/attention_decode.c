// Attention of one position against the key/value cache, as decoding needs it: keys and values are read once for all
// query heads that share them. The cache is cut into chunks, each with a softmax of its own, that are combined in order
// (Flash-Decoding); the cut depends on the shape alone.

#include "attention.h"

#include "attention_tile.h"
#include "vector_math.h"

enum {
  CHUNK = 128, // slots with a softmax of their own
  BLOCK = 64,  // slots that stay in the L1 cache while all heads use them; whole vectors
  COMBINE_GRAIN = 1 << 16, // elements of partial sums that are worth a range
};

typedef struct {
  const attention_problem *problem;
  ptrdiff_t width, chunks, chunk; // chunks of the longest sequence, slots of one
  ptrdiff_t first, sequences;     // of this wave
  float *sums;                    // (sequences, h, chunks) x [max, sum]
  float *outs;                    // (sequences, h, chunks) x width
} decode_state;

// Scores of BLOCK slots: dot products of a query with VL keys at a time.
static void score_block(float *scores, const float *query, const float *keys, ptrdiff_t stride, ptrdiff_t width, ptrdiff_t slots) {
  for (ptrdiff_t slot = 0; slot < slots; slot += VL) {
    const float *key = keys + slot * stride;
    vf acc[VL];
#pragma GCC unroll 16
    for (int l = 0; l < VL; l++) acc[l] = vf_set(0);
    for (ptrdiff_t j = 0; j < width; j += VL) {
      vf q = vf_load(query + j);
#pragma GCC unroll 16
      for (int l = 0; l < VL; l++) acc[l] = vf_fma(vf_load(key + l * stride + j), q, acc[l]);
    }
    vf_store(scores + slot, sum_each(acc));
  }
}

// out += weights · values for `rows` heads.
TILE_INLINE void weigh_values(float *out, const float *weights, ptrdiff_t weights_row, const float *values, ptrdiff_t stride, ptrdiff_t width, ptrdiff_t slots, int rows) {
  ptrdiff_t j = 0;
  for (; j + PANEL <= width; j += PANEL)
    multiply_rows(out + j, width, weights, weights_row, 1, values + j, stride, slots, 0, 0, rows, PANEL_VECTORS);
  if (width - j > VL) multiply_rows(out + j, width, weights, weights_row, 1, values + j, stride, slots, 0, 0, rows, 2);
  else if (width > j) multiply_rows(out + j, width, weights, weights_row, 1, values + j, stride, slots, 0, 0, rows, 1);
}

static void weigh_block(float *out, const float *weights, ptrdiff_t weights_row, const float *values, ptrdiff_t stride, ptrdiff_t width, ptrdiff_t slots, ptrdiff_t heads) {
  for (; heads >= TILE_ROWS; heads -= TILE_ROWS, out += TILE_ROWS * width, weights += TILE_ROWS * weights_row)
    weigh_values(out, weights, weights_row, values, stride, width, slots, TILE_ROWS);
  for (; heads >= 2; heads -= 2, out += 2 * width, weights += 2 * weights_row)
    weigh_values(out, weights, weights_row, values, stride, width, slots, 2);
  if (heads > 0) weigh_values(out, weights, weights_row, values, stride, width, slots, 1);
}

// scores become exp(score - max); sums = [max, Σ].
static void weigh_scores(float *scores, ptrdiff_t slots, float sums[2]) {
  ptrdiff_t padded = round_up(slots, VL);
  for (ptrdiff_t j = slots; j < padded; j++) scores[j] = -__builtin_inff();
  vf max = vf_load(scores), sum = vf_set(0);
  for (ptrdiff_t j = VL; j < padded; j += VL) max = vf_max(max, vf_load(scores + j));
  sums[0] = vf_max_lane(max);
  for (ptrdiff_t j = 0; j < padded; j += VL) {
    vf weight = vf_exp(vf_load(scores + j) - sums[0]);
    vf_store(scores + j, weight);
    sum += weight;
  }
  sums[1] = vf_sum(sum);
}

// Slots as whole rows of `width`: where they are, or copied when rows or the block have a ragged end.
static const float *whole_rows(const attention_problem *p, const float *slots, ptrdiff_t width, ptrdiff_t count, float *copy, ptrdiff_t *stride) {
  if (p->d == width && count == BLOCK) {
    *stride = p->slot_stride;
    return slots;
  }
  copy_rows(copy, width, slots, p->slot_stride, p->d, count, round_up(count, VL), 1);
  *stride = width;
  return copy;
}

static void decode_chunk(const decode_state *s, float *scratch, ptrdiff_t sequence, ptrdiff_t kv, ptrdiff_t chunk) {
  const attention_problem *p = s->problem;
  ptrdiff_t group = p->h / p->k, width = s->width, stride;
  ptrdiff_t first = chunk * s->chunk, slots = smaller(s->chunk, p->positions[sequence] + 1 - first);
  if (slots <= 0) return;
  ptrdiff_t at = sequence * p->sequence_stride + kv * p->head_stride + first * p->slot_stride;
  ptrdiff_t head = ((sequence - s->first) * p->h + kv * group) * s->chunks + chunk;
  float *copy = scratch, *queries = copy + BLOCK * width, *outs = queries + group * width, *scores = outs + group * width;
  float scale = (float)(1 / __builtin_sqrt((double)p->d));
  copy_rows(queries, width, p->queries + sequence * p->query_stride + kv * group * p->d, p->d, p->d, group, group, scale);
  for (ptrdiff_t j = 0; j < group * width; j += VL) vf_store(outs + j, vf_set(0));
  for (ptrdiff_t slot = 0; slot < slots; slot += BLOCK) {
    ptrdiff_t count = smaller(BLOCK, slots - slot);
    const float *keys = whole_rows(p, p->keys + at + slot * p->slot_stride, width, count, copy, &stride);
    for (ptrdiff_t g = 0; g < group; g++) score_block(scores + g * s->chunk + slot, queries + g * width, keys, stride, width, count);
  }
  for (ptrdiff_t g = 0; g < group; g++) weigh_scores(scores + g * s->chunk, slots, s->sums + 2 * (head + g * s->chunks));
  for (ptrdiff_t slot = 0; slot < slots; slot += BLOCK) {
    ptrdiff_t count = smaller(BLOCK, slots - slot);
    const float *values = whole_rows(p, p->values + at + slot * p->slot_stride, width, count, copy, &stride);
    weigh_block(outs, scores + slot, s->chunk, values, stride, width, count, group);
  }
  for (ptrdiff_t g = 0; g < group; g++)
    __builtin_memcpy(s->outs + (head + g * s->chunks) * width, outs + g * width, (size_t)width * 4);
}

static void decode_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  const decode_state *s = args;
  for (ptrdiff_t index = begin; index < end; index++) {
    ptrdiff_t pair = index / s->chunks, k = s->problem->k;
    decode_chunk(s, tl_scratch(ctx, worker), s->first + pair / k, pair % k, index % s->chunks);
  }
}

// out of query heads begin ... end of the wave, from their chunks.
static void combine_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  const decode_state *s = args;
  const attention_problem *p = s->problem;
  float *total = tl_scratch(ctx, worker);
  for (ptrdiff_t head = begin; head < end; head++) {
    const float *sums = s->sums + head * s->chunks * 2, *outs = s->outs + head * s->chunks * s->width;
    ptrdiff_t chunks = quotient_up(p->positions[s->first + head / p->h] + 1, s->chunk);
    float max = sums[0], sum = 0;
    for (ptrdiff_t c = 1; c < chunks; c++) max = sums[2 * c] > max ? sums[2 * c] : max;
    for (ptrdiff_t j = 0; j < s->width; j += VL) vf_store(total + j, vf_set(0));
    for (ptrdiff_t c = 0; c < chunks; c++) {
      vf factor = vf_exp(vf_set(sums[2 * c] - max));
      sum += sums[2 * c + 1] * factor[0];
      for (ptrdiff_t j = 0; j < s->width; j += VL)
        vf_store(total + j, vf_fma(factor, vf_load(outs + c * s->width + j), vf_load(total + j)));
    }
    copy_padded(p->out + (s->first * p->h + head) * p->d, total, p->d, 0, 1 / sum);
  }
}

void tl_attention_decode(tl_context *ctx, const attention_problem *p) {
  decode_state s = {.problem = p, .width = padded_width(p->d), .chunk = CHUNK};
  ptrdiff_t longest = 0;
  for (ptrdiff_t b = 0; b < p->b; b++) longest = larger(longest, p->positions[b] + 1);
  ptrdiff_t head = s.width + 2, fitting = TL_SHARED_BYTES / 4 / (p->h * head);
  while (quotient_up(longest, s.chunk) > fitting) s.chunk *= 2;
  s.chunks = quotient_up(longest, s.chunk);
  ptrdiff_t wave = smaller(p->b, fitting / s.chunks);
  s.outs = tl_shared(ctx);
  s.sums = s.outs + wave * p->h * s.chunks * s.width;
  for (s.first = 0; s.first < p->b; s.first += wave) {
    s.sequences = smaller(wave, p->b - s.first);
    tl_parallel(ctx, decode_task, &s, s.sequences * p->k * s.chunks, 1);
    tl_parallel(ctx, combine_task, &s, s.sequences * p->h, quotient_up(COMBINE_GRAIN, s.chunks * s.width));
  }
}
