// Matrix product after Goto and van de Geijn 2008 and BLIS (Van Zee and van de Geijn 2015): operands are packed into
// panels that fit the caches, and a register tile multiplies one panel of each. The operand with fewer rows is packed
// whole, the other one part by part by the thread that multiplies it, into its thread's L2 cache. The order of every sum depends on
// the shape alone, never on the threads.

#include "gemm.h"

#include "gemm_int8.h"

enum {
  MAX_DEPTH = 320,      // words of depth of one packed block: a panel of B then stays near the L1 cache
  MAX_BYTES_DEPTH = 256, // likewise with bytes and their scales
  DEPTH_UNIT = 32,      // so that a block of depth is whole quantization blocks
  SLAB_WORDS = 1 << 20, // packed words of the operand that is packed whole
  STREAM_WORDS = 32 << 10, // packed words of the other operand, per thread
  BLOCK_A = 16,            // panels of A that stay in the L2 cache while those of B pass
  REUSE = 8,               // panels of a part, at least, so that what is read of the slab is used again
  PARTS_PER_THREAD = 8,    // at most, so that threads end together
};

typedef struct {
  const gemm_problem *problem;
  pack_source a, b;
  ptrdiff_t words, block_words; // depth of the whole problem and of one block
  int streams_a;                // which operand is packed by the parts that multiply it
  ptrdiff_t streamed, parts;    // its panels, and in how many parts they are cut
  // The slab of the other operand.
  ptrdiff_t row, rows, word, slab_words;
  float *packed;
} gemm_state;

// Panels of the slab or of the thread, by depth block.
typedef struct {
  const float *panels;
  ptrdiff_t row, rows;
} packed_block;

static inline ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t quotient_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }

// Packed words that `words` of depth take of one row of A and of B.
static ptrdiff_t packed_a(const gemm_state *s, ptrdiff_t words) { return s->a.kind == WORD_BYTES ? words / BLOCK_WORDS * LINES_A : words; }
static ptrdiff_t packed_b(const gemm_state *s, ptrdiff_t words) { return s->b.kind == WORD_BYTES ? words / BLOCK_WORDS * LINES_B : words; }

static void pack_a(const gemm_state *s, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst) {
  if (s->a.kind == WORD_BYTES) pack_bytes_a(&s->a, s->b.x.dtype == TL_Q4_0 ? 8 : Q8_OFFSET, panels, row, word, words, dst);
  else pack_panels(&s->a, TILE_M, panels, row, word, words, dst);
}

static void pack_b(const gemm_state *s, ptrdiff_t panels, ptrdiff_t row, ptrdiff_t word, ptrdiff_t words, float *dst) {
  if (s->b.kind != WORD_BYTES) pack_panels(&s->b, TILE_N, panels, row, word, words, dst);
  else if (s->b.x.dtype == TL_Q4_0) pack_bytes_b(&s->b, panels, row, word, words, dst, 1);
  else pack_bytes_b(&s->b, panels, row, word, words, dst, 0);
}

static ptrdiff_t slab_panels(const gemm_state *s) { return quotient_up(s->rows, s->streams_a ? TILE_N : TILE_M); }

// Where panel `panel` of the slab's block of depth from `done` words on lies, each panel having `words` words of depth.
static float *slab_panel(const gemm_state *s, ptrdiff_t done, ptrdiff_t panel, ptrdiff_t words) {
  if (s->streams_a) return s->packed + (packed_b(s, done) * slab_panels(s) + packed_b(s, words) * panel) * TILE_N;
  return s->packed + (packed_a(s, done) * slab_panels(s) + packed_a(s, words) * panel) * TILE_M;
}

// Packs units of the slab: GROUP panels of one block of depth.
enum { GROUP = 8 };
static void pack_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  (void)ctx, (void)worker;
  const gemm_state *s = args;
  ptrdiff_t panels = slab_panels(s), groups = quotient_up(panels, GROUP), width = s->streams_a ? TILE_N : TILE_M;
  for (ptrdiff_t index = begin; index < end; index++) {
    ptrdiff_t panel = index % groups * GROUP, done = index / groups * s->block_words;
    ptrdiff_t words = smaller(s->block_words, s->slab_words - done);
    float *dst = slab_panel(s, done, panel, words);
    ptrdiff_t some = smaller(GROUP, panels - panel), row = s->row + panel * width;
    if (s->streams_a) pack_b(s, some, row, s->word + done, words, dst);
    else pack_a(s, some, row, s->word + done, words, dst);
  }
}

// c = init + a · bᵀ over one block of depth.
static void multiply_blocks(const gemm_state *s, packed_block a, packed_block b, ptrdiff_t words, const float *init, fetch_ahead *ahead) {
  const gemm_problem *p = s->problem;
  ptrdiff_t panels_a = quotient_up(a.rows, TILE_M), panels_b = quotient_up(b.rows, TILE_N);
  ahead->lines = quotient_up(ahead->runs * quotient_up(ahead->run, CACHE_LINE), panels_a * panels_b * quotient_up(words, FETCH_STEP));
  for (ptrdiff_t first = 0; first < panels_a; first += BLOCK_A) {
    ptrdiff_t last = smaller(first + BLOCK_A, panels_a);
    for (ptrdiff_t jb = 0; jb < panels_b; jb++) {
      for (ptrdiff_t ja = first; ja < last; ja++) {
        ptrdiff_t at = (a.row + ja * TILE_M) * p->c_stride + b.row + jb * TILE_N;
        ptrdiff_t rows = smaller(TILE_M, a.rows - ja * TILE_M), columns = smaller(TILE_N, b.rows - jb * TILE_N);
        const float *panel_a = a.panels + ja * packed_a(s, words) * TILE_M, *panel_b = b.panels + jb * packed_b(s, words) * TILE_N;
        const float *from = init ? init + at : 0;
        if (s->a.kind == WORD_BYTES) tile_bytes(panel_a, panel_b, words, p->c + at, from, p->c_stride, rows, columns, ahead);
        else if (s->a.kind == WORD_PAIR) tile_pairs(panel_a, panel_b, words, p->c + at, from, p->c_stride, rows, columns, ahead);
        else tile_f32(panel_a, panel_b, words, p->c + at, from, p->c_stride, rows, columns, ahead);
      }
    }
  }
}

// First panel of part `index` of the streamed operand.
static ptrdiff_t part_begin(const gemm_state *s, ptrdiff_t index) { return s->streamed * smaller(index, s->parts) / s->parts; }

// Multiplies one part of the streamed operand with the slab.
static void multiply_part(tl_context *ctx, const gemm_state *s, ptrdiff_t index, float *stream) {
  const gemm_problem *p = s->problem;
  const pack_source *source = s->streams_a ? &s->a : &s->b;
  ptrdiff_t width = s->streams_a ? TILE_M : TILE_N;
  ptrdiff_t begin = part_begin(s, index), end = part_begin(s, index + 1), most = STREAM_WORDS / (MAX_DEPTH * width);
  for (ptrdiff_t panel = begin; panel < end; panel += most) {
    ptrdiff_t panels = smaller(most, end - panel), row = panel * width;
    packed_block streamed = {stream, row, smaller(panels * width, source->end - row)};
    // While all threads are equally fast, every thread's parts are as many apart as there are threads.
    ptrdiff_t next = panel + most < end ? panel + most : part_begin(s, index + tl_thread_count(ctx));
    for (ptrdiff_t done = 0; done < s->slab_words; done += s->block_words) {
      ptrdiff_t word = s->word + done, words = smaller(s->block_words, s->slab_words - done);
      packed_block whole = {slab_panel(s, done, 0, words), s->row, s->rows};
      const float *init = word == 0 ? p->init : p->c;
      fetch_ahead ahead = done + words < s->slab_words
        ? source_of(source, row, panels * width, word + words, s->block_words)
        : source_of(source, next * width, smaller(most, end - begin) * width, s->word, s->block_words);
      if (s->streams_a) {
        pack_a(s, panels, row, word, words, stream);
        multiply_blocks(s, streamed, whole, words, init, &ahead);
      } else {
        pack_b(s, panels, row, word, words, stream);
        multiply_blocks(s, whole, streamed, words, init, &ahead);
      }
    }
  }
}

static void multiply_task(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker) {
  for (ptrdiff_t index = begin; index < end; index++) multiply_part(ctx, args, index, tl_scratch(ctx, worker));
}

static void multiply_slab(tl_context *ctx, gemm_state *s) {
  tl_parallel(ctx, pack_task, s, quotient_up(slab_panels(s), GROUP) * quotient_up(s->slab_words, s->block_words), 1);
  tl_parallel(ctx, multiply_task, s, s->parts, 1);
}

void tl_gemm(tl_context *ctx, const gemm_problem *p) {
  int is_quantized = p->b.dtype == TL_Q8_0 || p->b.dtype == TL_Q4_0;
  int kind = !p->bf16 ? WORD_F32 : HAS_BYTES && is_quantized ? WORD_BYTES : HAS_PAIRS ? WORD_PAIR : WORD_ROUNDED;
  gemm_state s = {.problem = p, .a = {p->a, kind, p->k, p->m}, .b = {p->b, kind, p->k, p->n}};
  s.words = quotient_up(p->k, word_elements(kind));
  ptrdiff_t blocks = quotient_up(s.words, kind == WORD_BYTES ? MAX_BYTES_DEPTH : MAX_DEPTH);
  s.block_words = quotient_up(quotient_up(s.words, blocks), DEPTH_UNIT) * DEPTH_UNIT;
  ptrdiff_t panels_a = quotient_up(p->m, TILE_M), panels_b = quotient_up(p->n, TILE_N), threads = tl_thread_count(ctx);
  s.streams_a = panels_a >= panels_b;
  s.streamed = s.streams_a ? panels_a : panels_b;
  ptrdiff_t each = smaller(s.streamed / (threads * REUSE), PARTS_PER_THREAD);
  s.parts = threads * (each > 1 ? each : 1);
  s.packed = tl_shared(ctx);
  ptrdiff_t width = s.streams_a ? TILE_N : TILE_M, all = s.streams_a ? p->n : p->m;
  ptrdiff_t padded = quotient_up(all, width) * width;
  ptrdiff_t fitting = SLAB_WORDS / padded / s.block_words;
  ptrdiff_t depth = smaller(s.words, (fitting > 1 ? fitting : 1) * s.block_words);
  ptrdiff_t slab_rows = smaller(padded, SLAB_WORDS / depth / width * width);
  for (s.row = 0; s.row < all; s.row += slab_rows) {
    s.rows = smaller(slab_rows, all - s.row);
    for (s.word = 0; s.word < s.words; s.word += depth) {
      s.slab_words = smaller(depth, s.words - s.word);
      multiply_slab(ctx, &s);
    }
  }
}
