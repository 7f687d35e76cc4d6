// The context: worker threads, the job they share and scratch memory. One 64-bit word holds the job's number and how many
// of its ranges are unclaimed, so a worker that wakes late claims from the current job or from none; nobody waits for it.

#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "threads.h"

#if !defined(__wasm__)
#include <pthread.h>
#include <sched.h>
#include <time.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

enum {
  RANGES_PER_THREAD = 8, // finer ranges even out threads of unequal speed
  MAX_THREADS = 256,
  SPIN_NANOSECONDS = 20000, // longer than the gap between two operations of a decoding step
  SPIN_ROUNDS = 64,         // polls between two looks at the clock
  WASM_SPIN_POLLS = 20000,  // WASM has no clock: about the same time at a nanosecond a poll
};

struct tl_context {
  int threads;
  int started; // native threads to join
  // Written by the caller before `tickets` is published, constant until the job is done.
  tl_task task;
  const void *args;
  ptrdiff_t count, range;
  uint32_t ranges;
  _Alignas(64) uint64_t tickets; // job number << 32 | unclaimed ranges
  _Alignas(64) uint32_t finished; // ranges of the current job that are done
  uint32_t caller_sleeps;
  _Alignas(64) uint32_t signal; // changes whenever there is something to look at
  uint32_t sleepers;
  uint32_t stop;
#if !defined(__wasm__)
  struct tl_worker {
    tl_context *ctx;
    int index;
    pthread_t thread;
  } workers[MAX_THREADS];
#if !defined(__linux__)
  pthread_mutex_t mutex;
  pthread_cond_t condition;
#endif
#endif
};

static const size_t HEADER_BYTES = (sizeof(tl_context) + 4095) / 4096 * 4096;

// Sleeps unless *word has changed from `seen`; may return early.
static void sleep_on(tl_context *ctx, uint32_t *word, uint32_t seen) {
#if defined(__wasm__)
  (void)ctx;
  __builtin_wasm_memory_atomic_wait32((int *)word, (int)seen, -1);
#elif defined(__linux__)
  (void)ctx;
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
#else
  pthread_mutex_lock(&ctx->mutex);
  while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == seen) pthread_cond_wait(&ctx->condition, &ctx->mutex);
  pthread_mutex_unlock(&ctx->mutex);
#endif
}

static void wake_all(tl_context *ctx, uint32_t *word) {
#if defined(__wasm__)
  (void)ctx;
  __builtin_wasm_memory_atomic_notify((int *)word, 0x7fffffff);
#elif defined(__linux__)
  (void)ctx;
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
#else
  (void)word;
  pthread_mutex_lock(&ctx->mutex);
  pthread_cond_broadcast(&ctx->condition);
  pthread_mutex_unlock(&ctx->mutex);
#endif
}

#if !defined(__wasm__)
static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
#endif

// Polls *word until it differs from `seen`, for a bounded time. Returns whether it does.
static int spin_on(const uint32_t *word, uint32_t seen) {
#if defined(__wasm__)
  for (int poll = 0; poll < WASM_SPIN_POLLS; poll++)
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) return 1;
  return 0;
#else
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    for (int poll = 0; poll < SPIN_ROUNDS; poll++) {
      if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) return 1;
      relax();
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000000000L + (now.tv_nsec - start.tv_nsec) < SPIN_NANOSECONDS);
  return 0;
#endif
}

// Claims and runs ranges of the current job until none is left.
static void serve(tl_context *ctx, int worker) {
  uint64_t tickets = __atomic_load_n(&ctx->tickets, __ATOMIC_ACQUIRE);
  while ((uint32_t)tickets != 0) {
    if (!__atomic_compare_exchange_n(&ctx->tickets, &tickets, tickets - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)) continue;
    // The job cannot end before this range is done, so its fields are stable from here on.
    uint32_t ranges = ctx->ranges;
    ptrdiff_t begin = (ptrdiff_t)(ranges - (uint32_t)tickets) * ctx->range;
    ptrdiff_t end = begin + ctx->range < ctx->count ? begin + ctx->range : ctx->count;
    ctx->task(ctx, ctx->args, begin, end, worker);
    uint32_t finished = __atomic_add_fetch(&ctx->finished, 1, __ATOMIC_SEQ_CST);
    if (finished == ranges && __atomic_load_n(&ctx->caller_sleeps, __ATOMIC_SEQ_CST)) wake_all(ctx, &ctx->finished);
    tickets = __atomic_load_n(&ctx->tickets, __ATOMIC_ACQUIRE);
  }
}

void tl_worker_run(tl_context *ctx, int worker) {
  while (!__atomic_load_n(&ctx->stop, __ATOMIC_SEQ_CST)) {
    uint32_t seen = __atomic_load_n(&ctx->signal, __ATOMIC_SEQ_CST);
    serve(ctx, worker);
    if (spin_on(&ctx->signal, seen)) continue;
    __atomic_add_fetch(&ctx->sleepers, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&ctx->stop, __ATOMIC_SEQ_CST)) sleep_on(ctx, &ctx->signal, seen);
    __atomic_sub_fetch(&ctx->sleepers, 1, __ATOMIC_SEQ_CST);
  }
}

static void publish(tl_context *ctx) {
  __atomic_add_fetch(&ctx->signal, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&ctx->sleepers, __ATOMIC_SEQ_CST)) wake_all(ctx, &ctx->signal);
}

void tl_parallel(tl_context *ctx, tl_task task, const void *args, ptrdiff_t count, ptrdiff_t grain) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  if (ctx->threads == 1 || count <= grain) {
    task(ctx, args, 0, count, 0);
    return;
  }
  ptrdiff_t grains = (count + grain - 1) / grain;
  ptrdiff_t wanted = (ptrdiff_t)ctx->threads * RANGES_PER_THREAD;
  ctx->task = task;
  ctx->args = args;
  ctx->count = count;
  ctx->range = (grains + wanted - 1) / wanted * grain;
  ctx->ranges = (uint32_t)((count + ctx->range - 1) / ctx->range);
  __atomic_store_n(&ctx->finished, 0, __ATOMIC_SEQ_CST);
  uint64_t job = (__atomic_load_n(&ctx->tickets, __ATOMIC_RELAXED) >> 32) + 1;
  __atomic_store_n(&ctx->tickets, job << 32 | ctx->ranges, __ATOMIC_SEQ_CST);
  publish(ctx);
  serve(ctx, 0);
  for (;;) {
    uint32_t finished = __atomic_load_n(&ctx->finished, __ATOMIC_SEQ_CST);
    if (finished == ctx->ranges) return;
    if (spin_on(&ctx->finished, finished)) continue;
    __atomic_store_n(&ctx->caller_sleeps, 1, __ATOMIC_SEQ_CST);
    finished = __atomic_load_n(&ctx->finished, __ATOMIC_SEQ_CST);
    if (finished != ctx->ranges) sleep_on(ctx, &ctx->finished, finished);
    __atomic_store_n(&ctx->caller_sleeps, 0, __ATOMIC_SEQ_CST);
  }
}

size_t tl_context_bytes(int threads) {
  return HEADER_BYTES + (size_t)threads * TL_SCRATCH_BYTES + TL_SHARED_BYTES;
}

int tl_thread_count(const tl_context *ctx) { return ctx->threads; }

void *tl_scratch(tl_context *ctx, int worker) {
  return (char *)ctx + HEADER_BYTES + TL_SHARED_BYTES + (size_t)worker * TL_SCRATCH_BYTES;
}

void *tl_shared(tl_context *ctx) { return (char *)ctx + HEADER_BYTES; }

#if !defined(__wasm__)
static void *worker_main(void *argument) {
  struct tl_worker *worker = argument;
  tl_worker_run(worker->ctx, worker->index);
  return NULL;
}
#endif

int tl_context_open(tl_context *ctx, int threads) {
  if (threads < 1 || threads > MAX_THREADS) return -1;
  ctx->threads = threads;
#if !defined(__wasm__)
#if !defined(__linux__)
  pthread_mutex_init(&ctx->mutex, NULL);
  pthread_cond_init(&ctx->condition, NULL);
#endif
  for (int index = 1; index < threads; index++) {
    struct tl_worker *worker = &ctx->workers[index];
    worker->ctx = ctx;
    worker->index = index;
    if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
      tl_context_close(ctx);
      return -1;
    }
    ctx->started = index;
  }
#endif
  return 0;
}

void tl_context_close(tl_context *ctx) {
  __atomic_store_n(&ctx->stop, 1, __ATOMIC_SEQ_CST);
  publish(ctx);
#if !defined(__wasm__)
  for (int index = 1; index <= ctx->started; index++) pthread_join(ctx->workers[index].thread, NULL);
#if !defined(__linux__)
  pthread_cond_destroy(&ctx->condition);
  pthread_mutex_destroy(&ctx->mutex);
#endif
#endif
}
