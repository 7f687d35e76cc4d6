// Fork-join over index ranges, for both builds: idle threads spin for some microseconds, then sleep on a futex (Linux),
// a condition variable (other systems) or memory.atomic.wait (WASM). All state lives in the context.

#ifndef TINYLLAMA_THREADS_H
#define TINYLLAMA_THREADS_H

#include "kernels.h"

// Work on [begin, end) as worker `worker` (0 is the caller). Which worker gets which range is not fixed, so a task must
// not let its result depend on it.
typedef void (*tl_task)(tl_context *ctx, const void *args, ptrdiff_t begin, ptrdiff_t end, int worker);

// Runs task over [0, count) on all threads and returns when all is done. Ranges begin at multiples of `grain` and hold at
// least `grain` indices, the last one excepted. Runs inline when count <= grain. Must not be called from within a task.
void tl_parallel(tl_context *ctx, tl_task task, const void *args, ptrdiff_t count, ptrdiff_t grain);

int tl_thread_count(const tl_context *ctx);
// Scratch memory of one worker, TL_SCRATCH_BYTES, 64-byte aligned; contents do not survive the operation.
#define TL_SCRATCH_BYTES (4 << 20)
void *tl_scratch(tl_context *ctx, int worker);
// Scratch memory that all workers share, TL_SHARED_BYTES, 64-byte aligned; for partial sums and packed operands.
#define TL_SHARED_BYTES (32 << 20)
void *tl_shared(tl_context *ctx);

#endif
