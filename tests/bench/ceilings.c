// What this machine can do at most: multiply-add rates from registers and memory read bandwidth, as one JSON line.
// ceilings.ts compiles and runs it. Usage: ceilings THREADS

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define LANES (VECTOR_BYTES / 4)
#define CHAINS 12 // independent accumulators: latency times throughput, and few enough for 16 registers
#define ROUNDS 10000000L
#define REPEATS 8
#define MAX_THREADS 256
#define READ_BYTES ((size_t)512 << 20)

typedef float vf __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t vl __attribute__((vector_size(VECTOR_BYTES)));
typedef void (*work)(const char *memory);

static volatile float sink;
static char *memories[MAX_THREADS];
static pthread_barrier_t barrier;

static void multiply_f32(const char *memory) {
  vf sum[CHAINS], x = (vf){0} + 0.999f + memory[0];
  for (int i = 0; i < CHAINS; i++) sum[i] = (vf){0} + (float)i;
  for (long round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * x + x;
  }
  for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];
  sink = sum[0][0];
}

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
static void multiply_bf16(const char *memory) {
  __m512 sum[CHAINS];
  __m512bh x = (__m512bh)_mm512_set1_epi16((short)(0x3f80 + memory[0]));
  for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
  for (long round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], x, x);
  }
  for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];
  sink = sum[0][0];
}

static void multiply_int8(const char *memory) {
  __m512i sum[CHAINS], x = _mm512_set1_epi8((char)(1 + memory[0]));
  for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_epi32(i);
  for (long round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbusd_epi32(sum[i], x, x);
  }
  for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];
  sink = (float)sum[0][0];
}
#endif

static void read_memory(const char *memory) {
  vl sum[8] = {0};
  for (size_t at = 0; at < READ_BYTES; at += 8 * VECTOR_BYTES) {
    for (int i = 0; i < 8; i++) sum[i] ^= *(const vl *)(memory + at + i * VECTOR_BYTES);
  }
  for (int i = 1; i < 8; i++) sum[0] ^= sum[i];
  sink = (float)sum[0][0];
}

struct task {
  work work;
  int thread;
};

static void *run(void *argument) {
  const struct task *task = argument;
  pthread_barrier_wait(&barrier);
  task->work(memories[task->thread]);
  return NULL;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Billions of `per_thread` a second, all threads together, in the fastest of several runs.
static double rate(work work, int threads, double per_thread) {
  double fastest = 1e9;
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    pthread_t ids[MAX_THREADS];
    struct task tasks[MAX_THREADS];
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
      tasks[i] = (struct task){work, i};
      pthread_create(&ids[i], NULL, run, &tasks[i]);
    }
    double start = now();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    double elapsed = now() - start;
    if (elapsed < fastest) fastest = elapsed;
    pthread_barrier_destroy(&barrier);
  }
  return threads * per_thread / fastest / 1e9;
}

int main(int count, char **arguments) {
  int threads = count == 2 ? atoi(arguments[1]) : 0;
  if (threads < 1 || threads > MAX_THREADS) {
    fprintf(stderr, "usage: ceilings THREADS (1 to %d)\n", MAX_THREADS);
    return 2;
  }
  for (int i = 0; i < threads; i++) {
    memories[i] = aligned_alloc((size_t)2 << 20, READ_BYTES);
    if (memories[i] == NULL) return 1;
    memset(memories[i], 0, READ_BYTES);
  }
  double products = (double)ROUNDS * CHAINS * LANES;
  double f32 = rate(multiply_f32, threads, 2 * products), bf16 = 0, int8 = 0;
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
  bf16 = rate(multiply_bf16, threads, 4 * products);
  int8 = rate(multiply_int8, threads, 8 * products);
#endif
  double read = rate(read_memory, threads, (double)READ_BYTES);
  printf("{\"f32_gflops\":%.1f,\"bf16_gflops\":%.1f,\"int8_gops\":%.1f,\"read_gbs\":%.1f}\n", f32, bf16, int8, read);
  return 0;
}
