// Drawing the next tokens. Every filter keeps a front part of the ranking (greater logit first, then lower id), so the
// weights of what is dropped become 0 and the draw walks over all tokens in ascending id. As in Hugging Face's
// transformers, top-p counts probability after top-k, and min-p comes last.

#include "philox.h"
#include "softmax.h"
#include "threads.h"

enum {
  TOKEN_BYTES = 2 * sizeof(float) + sizeof(uint64_t),
  SCRATCH_TOKENS = TL_SCRATCH_BYTES / TOKEN_BYTES, // larger vocabularies use the shared memory, one sequence at a time
  SCAN = 4 * VL,
  BLOCK = 1024,
  NARROW = 1 << 14, // steps of a float: 0.1 to 0.2 %
};

typedef struct {
  int *tokens, *positions;
  float *log_probs;
  const float *logits;
  int *seen;
  const int *rng;
  ptrdiff_t v, top_k;
  float temperature, top_p, min_p, penalty;
} sample_args;

// Orders like (score, lower id first), and all keys differ.
static inline uint64_t key_of(float score, ptrdiff_t id) {
  union {
    float value;
    uint32_t bits;
  } s = {score + 0.0f}; // -0 becomes 0
  uint32_t ordered = s.bits ^ (s.bits >> 31 ? 0xffffffff : 0x80000000);
  return (uint64_t)ordered << 32 | (uint32_t)~(uint32_t)id;
}

static inline ptrdiff_t id_of(uint64_t key) { return (ptrdiff_t)(uint32_t)~key; }

static void penalize(float *scores, const sample_args *a, const float *logits, const int *seen) {
  for (ptrdiff_t j = 0; j < a->v; j += VL) {
    ptrdiff_t lanes = a->v - j < VL ? a->v - j : VL;
    vf logit = vf_load_first(logits + j, lanes);
    vi times_seen = (vi)vf_load_first((const float *)(seen + j), lanes);
    vf punished = vf_select((vi)(logit > 0), logit / a->penalty, logit * a->penalty);
    vf_store_first(scores + j, vf_select((vi)(times_seen > 0), punished, logit), lanes);
  }
}

static ptrdiff_t first_equal(const float *x, ptrdiff_t count, float wanted) {
  for (ptrdiff_t j = 0; j < count; j++)
    if (x[j] == wanted) return j;
  return 0;
}

// Restores the order of a heap whose least key is at the front, after the key at `at` grew.
static void sift_down(uint64_t *heap, ptrdiff_t count, ptrdiff_t at) {
  uint64_t key = heap[at];
  for (ptrdiff_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= key) break;
    heap[at] = heap[child];
  }
  heap[at] = key;
}

static inline int exceeds(const float *x, ptrdiff_t count, float bound) {
  if (count < SCAN) return 1;
  vi above = {0};
  for (int i = 0; i < SCAN; i += VL) above |= (vi)(vf_load(x + i) > bound);
  return vi_any(above);
}

// The k greatest of v keys, in no order. Most stretches of scores hold nothing above the k-th so far and are skipped.
static void select_top_k(uint64_t *keys, ptrdiff_t k, const float *scores, ptrdiff_t v) {
  for (ptrdiff_t j = 0; j < k; j++) keys[j] = key_of(scores[j], j);
  for (ptrdiff_t j = k / 2; j-- > 0;) sift_down(keys, k, j);
  float least = scores[id_of(keys[0])];
  for (ptrdiff_t first = k; first < v; first += SCAN) {
    ptrdiff_t count = v - first < SCAN ? v - first : SCAN;
    if (!exceeds(scores + first, count, least)) continue;
    for (ptrdiff_t j = first; j < first + count; j++) {
      if (!(scores[j] > least)) continue;
      keys[0] = key_of(scores[j], j);
      sift_down(keys, k, 0);
      least = scores[id_of(keys[0])];
    }
  }
}

static inline ptrdiff_t block_length(ptrdiff_t first, ptrdiff_t v) { return v - first < BLOCK ? v - first : BLOCK; }

// What the tokens that weigh at least `bound` weigh together.
static double mass_above(const float *weights, ptrdiff_t v, float bound) {
  double total = 0;
  for (ptrdiff_t first = 0; first < v; first += BLOCK) {
    ptrdiff_t j = first, end = first + block_length(first, v);
    vf mass[SCAN / VL] = {0};
    for (; j + SCAN <= end; j += SCAN) {
      for (int i = 0; i < SCAN / VL; i++) {
        vf weight = vf_load(weights + j + i * VL);
        mass[i] += (vf)((vi)(weight >= bound) & (vi)weight);
      }
    }
    total += (double)vf_sum((mass[0] + mass[1]) + (mass[2] + mass[3]));
    for (; j < end; j++) total += weights[j] >= bound ? (double)weights[j] : 0;
  }
  return total;
}

// Keys of the tokens that weigh at least `low` and less than `high`; weights below `low` become 0. Returns their number.
static ptrdiff_t select_between(uint64_t *keys, float *weights, const float *scores, ptrdiff_t v, float low, float high) {
  ptrdiff_t found = 0;
  for (ptrdiff_t first = 0; first < v; first += VL) {
    ptrdiff_t count = v - first < VL ? v - first : VL;
    vf weight = vf_load_first(weights + first, count);
    vi reaches = (vi)(weight >= low);
    vf_store_first(weights + first, (vf)(reaches & (vi)weight), count);
    if (!vi_any(reaches & (vi)(weight < high))) continue;
    for (ptrdiff_t j = first; j < first + count; j++)
      if (weights[j] >= low && weights[j] < high) keys[found++] = key_of(scores[j], j);
  }
  return found;
}

static uint64_t median(uint64_t a, uint64_t b, uint64_t c) {
  if (a > b) return b > c ? b : a > c ? c : a;
  return a > c ? a : b > c ? c : b;
}

// Moves keys greater than the pivot to the front of [begin, end), the pivot behind them. Returns where the pivot is.
static ptrdiff_t partition(uint64_t *keys, ptrdiff_t begin, ptrdiff_t end, const float *weights, double *upper_mass) {
  uint64_t pivot = median(keys[begin], keys[begin + (end - begin) / 2], keys[end - 1]);
  ptrdiff_t split = begin, pivot_at = begin;
  *upper_mass = 0;
  for (ptrdiff_t j = begin; j < end; j++) {
    uint64_t key = keys[j];
    if (key == pivot) pivot_at = j;
    if (key <= pivot) continue;
    if (pivot_at == split) pivot_at = j;
    keys[j] = keys[split];
    keys[split++] = key;
    *upper_mass += (double)weights[id_of(key)];
  }
  keys[pivot_at] = keys[split];
  keys[split] = pivot;
  return split;
}

// Moves the smallest set of greatest keys whose weights reach `wanted` to the front; returns its size.
static ptrdiff_t select_mass(uint64_t *keys, ptrdiff_t count, const float *weights, double wanted) {
  ptrdiff_t begin = 0, end = count;
  double mass = 0; // of the keys before begin
  while (begin < end) {
    double upper;
    ptrdiff_t pivot = partition(keys, begin, end, weights, &upper);
    if (mass + upper >= wanted) {
      end = pivot;
      continue;
    }
    mass += upper + (double)weights[id_of(keys[pivot])];
    begin = pivot + 1;
    if (mass >= wanted) return begin;
  }
  return end;
}

static double block_sum(const float *x, ptrdiff_t count) {
  vf sum = {0};
  ptrdiff_t j = 0;
  for (; j + VL <= count; j += VL) sum += vf_load(x + j);
  double total = (double)vf_sum(sum);
  for (; j < count; j++) total += (double)x[j];
  return total;
}

// The token where the running sum of weights in ascending id passes the share `unit` of the whole.
static ptrdiff_t draw(const float *weights, ptrdiff_t v, float unit) {
  double total = 0, passed = 0;
  for (ptrdiff_t first = 0; first < v; first += BLOCK) total += block_sum(weights + first, block_length(first, v));
  double wanted = total * (double)unit;
  ptrdiff_t last = 0; // token with a weight, where rounding left the sum short
  for (ptrdiff_t first = 0; first < v; first += BLOCK) {
    ptrdiff_t count = block_length(first, v);
    double sum = block_sum(weights + first, count);
    if (sum > 0 && passed + sum > wanted) {
      double running = passed;
      for (ptrdiff_t j = first; j < first + count; j++) {
        if (!(weights[j] > 0)) continue;
        last = j;
        running += (double)weights[j];
        if (running > wanted) return j;
      }
      return last;
    }
    passed += sum;
  }
  for (ptrdiff_t j = 0; j < v; j++)
    if (weights[j] > 0) last = j;
  return last;
}

typedef union {
  float value;
  uint32_t bits; // order like the values, which are positive
} weight_bits;

// Zeroes the weights outside the smallest set of most likely tokens that weighs the share top_p of `total`. Halves the
// range in which the set's least weight must be until it is narrow, and ranks the tokens in it.
static void keep_mass(float *weights, uint64_t *keys, const float *scores, ptrdiff_t v, double total, double top_p) {
  double wanted = top_p * total, above = 0;
  // All tokens lighter than this weigh less than what may be dropped.
  weight_bits low = {(float)(0.5 * (1 - top_p) * total / (double)v)}, high = {1};
  high.bits++;
  while (high.bits > low.bits && high.bits - low.bits > NARROW) {
    weight_bits middle = {.bits = low.bits + (high.bits - low.bits) / 2};
    double mass = mass_above(weights, v, middle.value);
    if (mass >= wanted) low = middle;
    else high = middle, above = mass;
  }
  ptrdiff_t count = select_between(keys, weights, scores, v, low.value, high.value);
  ptrdiff_t kept = select_mass(keys, count, weights, wanted - above);
  for (ptrdiff_t j = kept; j < count; j++) weights[id_of(keys[j])] = 0;
}

// Leaves each kept token's weight, relative to the most likely one, in `weights` and 0 elsewhere.
static void weigh(float *weights, uint64_t *keys, const float *scores, const sample_args *a) {
  ptrdiff_t v = a->v;
  float greatest = row_max(scores, v);
  if (a->top_k > 0 && a->top_k < v) {
    double total = 0;
    select_top_k(keys, a->top_k, scores, v);
    __builtin_memset(weights, 0, (size_t)v * sizeof(float));
    for (ptrdiff_t j = 0; j < a->top_k; j++) {
      ptrdiff_t id = id_of(keys[j]);
      weights[id] = vf_exp(vf_set((scores[id] - greatest) / a->temperature))[0];
      total += (double)weights[id];
    }
    if (a->top_p < 1) {
      ptrdiff_t kept = select_mass(keys, a->top_k, weights, (double)a->top_p * total);
      for (ptrdiff_t j = kept; j < a->top_k; j++) weights[id_of(keys[j])] = 0;
    }
  } else {
    double total = row_exp_sum(weights, scores, v, greatest, a->temperature);
    if (a->top_p < 1) keep_mass(weights, keys, scores, v, total, (double)a->top_p);
  }
  if (a->min_p > 0) {
    for (ptrdiff_t j = 0; j < v; j++) weights[j] = weights[j] < a->min_p ? 0 : weights[j];
  }
}

static void sample_row(const sample_args *a, ptrdiff_t b, void *memory) {
  uint64_t *keys = memory;
  float *weights = (float *)(keys + a->v), *penalized = weights + a->v;
  const float *logits = a->logits + b * a->v, *scores = logits;
  int *seen = a->seen ? a->seen + b * a->v : NULL;
  if (seen && a->penalty != 1) {
    penalize(penalized, a, logits, seen);
    scores = penalized;
  }
  ptrdiff_t choice;
  if (a->temperature > 0) {
    const uint32_t *rng = (const uint32_t *)a->rng + 3 * b;
    uint32_t words[4] = {(uint32_t)a->positions[b], rng[2], 0, 0};
    philox(words, rng[0], rng[1]);
    weigh(weights, keys, scores, a);
    choice = draw(weights, a->v, unit_float(words[0]));
  } else {
    choice = first_equal(scores, a->v, row_max(scores, a->v));
  }
  float greatest = row_max(logits, a->v);
  double log_sum = log_of(row_exp_sum(NULL, logits, a->v, greatest, 1));
  a->log_probs[b] = (float)((double)logits[choice] - (double)greatest - log_sum);
  a->tokens[b] = (int)choice;
  if (seen) seen[choice]++;
  a->positions[b]++;
}

static void sample_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  const sample_args *a = args;
  void *memory = a->v <= SCRATCH_TOKENS ? tl_scratch(ctx, worker) : tl_shared(ctx);
  for (ptrdiff_t b = begin; b < end; b++) sample_row(a, b, memory);
}

TL_EXPORT void sample_token(tl_context *ctx, int *tokens, int *positions, float *log_probs, float *logits, int *seen, const int *rng, int b, int v, float temperature, int top_k, float top_p, float min_p, float repetition_penalty) {
  sample_args a = {tokens, positions, log_probs, logits, seen, rng, v, top_k, temperature, top_p, min_p, repetition_penalty};
  tl_parallel(ctx, sample_task, &a, b, v <= SCRATCH_TOKENS ? 1 : b);
}
