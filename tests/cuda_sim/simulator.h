// What the parts of the simulator know of each other: device memory with its shadow, one kernel launch, streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "cuda_sim.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace cuda_sim {

/** Status codes of cudaError_t and CUresult that mean the same in both. */
enum Status {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_PTX = 218,
  UNSUPPORTED_PTX = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  TOO_MANY_RESOURCES = 701,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILURE = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
};

/** Deno waits for events on threads of their own; every function of the libraries is in here alone. */
class Lock {
  static inline std::recursive_mutex mutex;
  std::lock_guard<std::recursive_mutex> guard{mutex};
};

/** Limits of the simulated card: those of an RTX 3090, with few multiprocessors so that grids wrap. */
constexpr int MULTIPROCESSORS = 4, CLOCK_KHZ = 1000000;
constexpr unsigned SHARED_DEFAULT = 48 * 1024, SHARED_MAX = 99 * 1024, HOPPER_SHARED_MAX = 227 * 1024;
constexpr unsigned MAX_BLOCK_THREADS = 1024;

struct Capability {
  int major, minor;
};
/** 8.6, or what TINYLLAMA_CUDA_SIM_CAPABILITY says now. */
Capability capability();
/** Shared memory that a block of the card may have. */
inline unsigned shared_max() { return capability().major < 9 ? SHARED_MAX : HOPPER_SHARED_MAX; }

/** Keeps the first failure of work that was enqueued; it stays until the process ends, as on a card. */
int fail(int status, const std::string &message);
/** The failure that stays, or SUCCESS. */
int failure();
/** What `status` means; the kept message where it is the failure's. */
const char *describe(int status);
/** Keeps a message for a status that does not stay and returns it. */
int refuse(int status, const std::string &message);

/** Address of new device memory, uninitialised in the shadow; 0 when more than the card's memory would be in use. */
uintptr_t allocate(size_t bytes);
/** False when nothing was allocated there. */
bool release(uintptr_t address);
void memory_info(size_t *free_bytes, size_t *total_bytes);
/** Checks a range that a copy or a library call touches, and marks what it writes. Fails with ILLEGAL_ADDRESS. */
bool check_range(const char *what, const void *place, size_t bytes, bool is_written);

/** Notes that work which a kernel after it need not wait for writes a range that has been checked. */
void note_unsettled(const void *place, size_t bytes);

/** Zeroed pages that take memory only once they are touched. Ends the process where there are no addresses left. */
unsigned char *reserve(size_t bytes);

constexpr size_t SHARED_BYTES = 256 * 1024;
/** Shared memory of the running block as one range. */
extern unsigned char *const shared_memory;
inline bool is_shared(const void *place) {
  return size_t(static_cast<const unsigned char *>(place) - shared_memory) < SHARED_BYTES;
}

constexpr size_t HEAP_BYTES = size_t(16) << 30;
/** The card's memory: its addresses, of which half can be in use. */
extern unsigned char *const heap;
inline bool is_device(const void *place) {
  return size_t(static_cast<const unsigned char *>(place) - heap) < HEAP_BYTES;
}

/** The part of a launch that a thread's accesses are judged by. Times count launches, blocks and barriers. */
struct Access {
  /** False outside kernels: then nothing is checked. */
  bool is_in_kernel = false;
  /** True during an atomic operation. */
  bool is_atomic = false;
  /** True in a kernel that may have begun before those it depends on have ended, until the thread has waited for them. */
  bool is_early = false;
  unsigned thread = 0;
  uint64_t clock = 1, launch_start = 1, block_start = 1, block_sync = 1, warp_sync = 1;
  /** What was written before is there, whatever kernels run at the same time. */
  uint64_t settled = 1;
  unsigned shared_bytes = 0;
};
extern Access access_state;
/** Everything before has ended. */
inline void settle() { access_state.settled = ++access_state.clock; }

/** Who touched a place, and when: a number of a thread, which is below 1024, or one of those below. */
struct Stamp {
  uint64_t time : 48, who : 16;
};
constexpr uint16_t NOBODY = 0x1000, SEVERAL = 0x1001, BY_ATOMIC = 0x1002;
/** With the number of a warp, all of whose threads are meant. */
constexpr uint16_t IS_WARP = 0x8000;
/** With the number of a thread, whose asynchronous copy is still on its way. */
constexpr uint16_t IS_COPY = 0x4000;
constexpr uint16_t NUMBER = 0x3fff;

/** Whether what the running thread does comes after what the stamp says of its block: one thread, or a barrier between. */
inline bool is_ordered(Stamp other) {
  const Access &now = access_state;
  if (other.who == now.thread || other.time < now.block_sync) return true;
  if (other.who == BY_ATOMIC) return now.is_atomic;
  if (other.who == SEVERAL) return false;
  const unsigned warp = other.who & IS_WARP ? other.who & NUMBER : other.who / 32u;
  return warp == now.thread / 32 && other.time < now.warp_sync;
}
/** The running thread, now. */
inline Stamp stamp_of_write() {
  return {access_state.clock, access_state.is_atomic ? BY_ATOMIC : access_state.thread};
}
std::string writer_text(Stamp writer);

/** Ends the running kernel with a failure; returns only outside kernels. */
void fault(int status, const std::string &message);
/** Notes an access of the running thread as compiled code does. */
void note_access(const void *place, unsigned bytes, bool is_written);

/** What is done to shared memory. A copy begins as COPY and is there with LANDING; PRODUCT reads in the async proxy. */
enum class Touch { READ, WRITE, COPY, LANDING, PRODUCT };
/** Judges what the running thread does to bytes of shared memory, and keeps it for what comes after. */
void note_shared(const void *place, unsigned bytes, Touch touch);

/** Whether a block has begun wgmma products: then registers and shared memory have to be watched for them. */
extern bool has_products;
void begin_products(unsigned threads);
/** Of the running thread. */
void end_products();
/** Whether a product that is not done reads bytes of shared memory. */
bool is_read_by_product(size_t start, size_t end);
/** Whether the writer has executed fence.proxy.async between its write and a barrier before what the thread does now. */
bool is_proxy_fenced(Stamp write);
/** Notes that the running thread uses memory of its own. */
void note_registers(const void *place, unsigned bytes);

/** Forgets the asynchronous copies of the threads before. */
void begin_copies(unsigned threads);
/** Whether a thread has begun copies that it has not waited for. */
bool has_copies(unsigned thread);

/** True once after each meeting of the running thread's warp, for the lane that asks first; `all` are its deposits. */
bool is_first_of(const Deposit *all);

struct Launch {
  const Entry *entry;
  dim3 grid, block;
  unsigned shared_bytes;
  /** Of a block, static memory included. */
  unsigned shared_max;
  /** Not 0: the order in which blocks and their threads run is shuffled. */
  uint64_t seed;
  /** Launched to begin before the kernel before it has ended, and whether its PTX waits for that. */
  bool is_dependent, has_wait;
  uint64_t arguments[64];
};
/** Runs all blocks to their end or to the first fault. */
void run(const Launch &launch);

/** Whether the running launch's accesses are counted, for access_report.cpp. */
extern bool is_counted;
void begin_count(const Launch &launch);
void begin_block_count(unsigned threads);
/** Counts an access of the running thread that stands at `site` in the code. */
void count_access(const void *site, const void *place, unsigned bytes, bool is_written);
void end_block_count();
void end_count();

/** The function of a name, or null. */
const Entry *find_entry(const std::string &name);

using Work = std::function<void()>;
/** The seed that TINYLLAMA_CUDA_SIM_SHUFFLE gave when the stream was made. */
uint64_t seed_of(void *stream);
/** Enqueues work, or records it where the stream is captured. Returns a status. */
int enqueue(void *stream, Work work);

} // namespace cuda_sim
