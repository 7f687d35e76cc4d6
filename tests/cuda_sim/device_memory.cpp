// Device memory with a shadow. Kernels are compiled with -fsanitize=thread, whose calls before every access land here: outside
// of allocations, uninitialised, misaligned, or touching what another thread of the same launch wrote with no barrier between
// them is a fault. Shared memory is judged in shared_memory.cpp.

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "simulator.h"

namespace cuda_sim {

unsigned char *const heap = reserve(HEAP_BYTES);

namespace {

constexpr size_t ALIGNMENT = 256, RED_ZONE = 256;
constexpr unsigned char INITIALISED = 2, ALLOCATED = 1;

unsigned char *const shadow = reserve(HEAP_BYTES);

// Who wrote last: for every two bytes, and only when for every sector, which no access of one instruction crosses. Threads
// that write one byte each of the same two are taken for a race.
constexpr size_t GRAIN = 2, SECTOR = 64;
Stamp *const writes = reinterpret_cast<Stamp *>(reserve(HEAP_BYTES / GRAIN * sizeof(Stamp)));
uint64_t *const sector_times = reinterpret_cast<uint64_t *>(reserve(HEAP_BYTES / SECTOR * sizeof(uint64_t)));

std::map<uintptr_t, size_t> live;
size_t used_bytes = 0;

size_t total_bytes() {
  const char *limit = getenv("TINYLLAMA_CUDA_SIM_MEMORY");
  return limit == nullptr ? HEAP_BYTES / 2 : strtoull(limit, nullptr, 10);
}

std::string place_text(const void *place) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  auto after = live.upper_bound(address);
  char text[160];
  if (after == live.begin()) {
    snprintf(text, sizeof text, "%p, which no allocation is near", place);
  } else {
    --after;
    snprintf(text, sizeof text, "byte %zu of an allocation of %zu bytes",
             size_t(address - after->first), after->second);
  }
  return text;
}

const char *verb(bool is_written) { return is_written ? "write" : "read"; }

/** Bytes that are not all initialised: a fault, or initialised from now on. */
void initialise(const void *place, unsigned char *states, unsigned bytes, bool is_written) {
  for (unsigned i = 0; i < bytes; i++) {
    if (states[i] == INITIALISED) continue;
    if (states[i] == 0) {
      return fault(ILLEGAL_ADDRESS, std::string("out-of-bounds ") + verb(is_written) + " of " +
                                        std::to_string(bytes) + " bytes at " + place_text(place));
    }
    if (!is_written) {
      return fault(ILLEGAL_ADDRESS, "read of uninitialised device memory at " + place_text(place));
    }
  }
  memset(states, INITIALISED, bytes);
}

/** A place of a sector that was written in this launch. */
void judge_order(const void *place, size_t first, size_t last, bool is_written) {
  const Access &now = access_state;
  for (size_t grain = first; grain <= last; grain++) {
    const Stamp write = writes[grain];
    if (write.time < now.launch_start) continue;
    const bool is_own_block = write.time >= now.block_start;
    if (is_own_block ? is_ordered(write) : write.who == BY_ATOMIC && now.is_atomic) continue;
    const std::string writer = is_own_block ? writer_text(write) : "another block";
    return fault(LAUNCH_FAILURE, std::string("race in device memory: ") + verb(is_written) + " at " +
                                     place_text(place) + " that " + writer +
                                     (is_own_block ? " wrote with no barrier in between" : " wrote too"));
  }
}

void stamp(size_t first, size_t last) {
  for (size_t grain = first; grain <= last; grain++) writes[grain] = stamp_of_write();
}

/** What a thread does before it waits for the kernels before: it may only read what none of them can have written. */
void judge_early(const void *place, size_t first, size_t last, bool is_written) {
  if (is_written) {
    return fault(LAUNCH_FAILURE, "write at " + place_text(place) + " before griddepcontrol.wait");
  }
  for (size_t grain = first; grain <= last; grain++) {
    if (writes[grain].time < access_state.settled) continue;
    return fault(LAUNCH_FAILURE, "read at " + place_text(place) + " before griddepcontrol.wait, of what a kernel before " +
                                     "this one writes");
  }
}

template <unsigned BYTES> bool is_initialised(const unsigned char *states) {
  unsigned char expected[BYTES];
  memset(expected, INITIALISED, BYTES);
  return memcmp(states, expected, BYTES) == 0;
}

/** An access of one instruction, at a multiple of its size. */
template <unsigned BYTES, bool IS_WRITTEN> void note_device(const void *place) {
  const size_t offset = static_cast<const unsigned char *>(place) - heap;
  if (!is_initialised<BYTES>(shadow + offset)) initialise(place, shadow + offset, BYTES, IS_WRITTEN);
  const size_t first = offset / GRAIN, last = (offset + BYTES - 1) / GRAIN;
  uint64_t &sector_time = sector_times[offset / SECTOR];
  if (access_state.is_early && (IS_WRITTEN || sector_time >= access_state.settled)) {
    judge_early(place, first, last, IS_WRITTEN);
  }
  if (sector_time >= access_state.launch_start) judge_order(place, first, last, IS_WRITTEN);
  if (!IS_WRITTEN) return;
  sector_time = access_state.clock;
  stamp(first, last);
}

void misaligned(const void *place, unsigned bytes, bool is_written) {
  fault(MISALIGNED_ADDRESS, std::string(verb(is_written)) + " of " + std::to_string(bytes) +
                                " bytes at " + place_text(place));
}

/** Neither device nor shared memory: the thread's own, or nothing at all. */
inline void note_elsewhere(const void *place, size_t bytes, bool is_written) {
  if (has_products && access_state.is_in_kernel) note_registers(place, unsigned(bytes));
  if (reinterpret_cast<uintptr_t>(place) >= 65536) return;
  fault(ILLEGAL_ADDRESS, std::string(verb(is_written)) + " through a null pointer");
}

template <unsigned BYTES, bool IS_WRITTEN> inline void note(const void *place) {
  const bool is_heap = is_device(place);
  if (!is_heap && !is_shared(place)) return note_elsewhere(place, BYTES, IS_WRITTEN);
  if (reinterpret_cast<uintptr_t>(place) % BYTES != 0) return misaligned(place, BYTES, IS_WRITTEN);
  if (is_heap) note_device<BYTES, IS_WRITTEN>(place);
  else note_shared(place, BYTES, IS_WRITTEN ? Touch::WRITE : Touch::READ);
}

template <bool IS_WRITTEN> void note_bytes(const void *place, size_t bytes) {
  const char *start = static_cast<const char *>(place);
  if (!is_device(place) && !is_shared(place)) return note_elsewhere(place, bytes, IS_WRITTEN);
  for (size_t i = 0; i < bytes; i++) note<1, IS_WRITTEN>(start + i);
}

/** Structures: 16 bytes are what one instruction moves. */
template <bool IS_WRITTEN> void note_range(const void *place, size_t bytes) {
  if (bytes == 16) note<16, IS_WRITTEN>(place);
  else note_bytes<IS_WRITTEN>(place, bytes);
}

} // namespace

unsigned char *reserve(size_t bytes) {
  void *place = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) {
    fprintf(stderr, "cuda_sim: cannot reserve %zu bytes of addresses\n", bytes);
    abort();
  }
  return static_cast<unsigned char *>(place);
}

Access access_state;

uintptr_t allocate(size_t bytes) {
  if (bytes == 0) return 0;
  if (used_bytes + bytes > total_bytes()) return 0;
  uintptr_t start = reinterpret_cast<uintptr_t>(heap) + ALIGNMENT;
  for (const auto &[address, size] : live) {
    if (start + bytes + RED_ZONE <= address) break;
    start = (address + size + RED_ZONE + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
  const size_t offset = start - reinterpret_cast<uintptr_t>(heap);
  if (offset + bytes + RED_ZONE > HEAP_BYTES) return 0;
  live[start] = bytes;
  used_bytes += bytes;
  memset(shadow + offset, ALLOCATED, bytes);
  return start;
}

bool release(uintptr_t address) {
  const auto found = live.find(address);
  if (found == live.end()) return false;
  memset(shadow + (address - reinterpret_cast<uintptr_t>(heap)), 0, found->second);
  used_bytes -= found->second;
  live.erase(found);
  return true;
}

void memory_info(size_t *free_bytes, size_t *total) {
  *total = total_bytes();
  *free_bytes = *total - used_bytes;
}

static unsigned char lowest(const unsigned char *states, size_t count) {
  unsigned char least = 255;
  for (size_t i = 0; i < count; i++) least = std::min(least, states[i]);
  return least;
}

bool check_range(const char *what, const void *place, size_t bytes, bool is_written) {
  if (bytes == 0) return true;
  const unsigned char *start = static_cast<const unsigned char *>(place);
  if (!is_device(place)) {
    fail(ILLEGAL_ADDRESS, std::string(what) + ": not a device address");
    return false;
  }
  unsigned char *states = shadow + (start - heap);
  const unsigned char least = is_written ? ALLOCATED : INITIALISED;
  if (lowest(states, bytes) < least) {
    const size_t i = std::find_if(states, states + bytes, [=](unsigned char one) { return one < least; }) - states;
    const char *kind = states[i] == 0 ? "out-of-bounds" : "uninitialised";
    fail(ILLEGAL_ADDRESS, std::string(what) + ": " + kind + " " + verb(is_written) + " at " +
                              place_text(start + i));
    return false;
  }
  if (is_written) memset(states, INITIALISED, bytes);
  return true;
}

void note_unsettled(const void *place, size_t bytes) {
  const size_t start = static_cast<const unsigned char *>(place) - heap;
  const Stamp now = {++access_state.clock, NOBODY};
  std::fill(writes + start / GRAIN, writes + (start + bytes + GRAIN - 1) / GRAIN, now);
  std::fill(sector_times + start / SECTOR, sector_times + (start + bytes + SECTOR - 1) / SECTOR, uint64_t(now.time));
}

void note_access(const void *place, unsigned bytes, bool is_written) {
  if (bytes == 4) return is_written ? note<4, true>(place) : note<4, false>(place);
  return is_written ? note_range<true>(place, bytes) : note_range<false>(place, bytes);
}

unsigned atomic(Atomic operation, unsigned *place, unsigned value) {
  access_state.is_atomic = true;
  note_access(place, sizeof *place, false);
  note_access(place, sizeof *place, true);
  access_state.is_atomic = false;
  const unsigned old = *place;
  switch (operation) {
  case Atomic::ADD: *place = old + value; break;
  case Atomic::MIN: *place = value < old ? value : old; break;
  case Atomic::MAX: *place = value > old ? value : old; break;
  case Atomic::EXCHANGE: *place = value; break;
  }
  return old;
}

} // namespace cuda_sim

using cuda_sim::note;
using cuda_sim::note_bytes;
using cuda_sim::note_range;

// The hooks are called from within the library only. What is called unaligned the compiler has put together from smaller
// accesses of the source.
#define HOOK extern "C" void
#define COUNT(place, bytes, is_written)                                                            \
  if (cuda_sim::is_counted) cuda_sim::count_access(__builtin_return_address(0), place, bytes, is_written)
#define ACCESS(bytes)                                                                              \
  HOOK __tsan_read##bytes(void *place) {                                                           \
    COUNT(place, bytes, false);                                                                    \
    note<bytes, false>(place);                                                                     \
  }                                                                                                \
  HOOK __tsan_write##bytes(void *place) {                                                          \
    COUNT(place, bytes, true);                                                                     \
    note<bytes, true>(place);                                                                      \
  }                                                                                                \
  HOOK __tsan_unaligned_read##bytes(void *place) {                                                 \
    COUNT(place, bytes, false);                                                                    \
    note_bytes<false>(place, bytes);                                                               \
  }                                                                                                \
  HOOK __tsan_unaligned_write##bytes(void *place) {                                                \
    COUNT(place, bytes, true);                                                                     \
    note_bytes<true>(place, bytes);                                                                \
  }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
HOOK __tsan_read_range(void *place, size_t bytes) {
  COUNT(place, unsigned(bytes), false);
  note_range<false>(place, bytes);
}
HOOK __tsan_write_range(void *place, size_t bytes) {
  COUNT(place, unsigned(bytes), true);
  note_range<true>(place, bytes);
}
HOOK __tsan_init() {}
HOOK __tsan_func_entry(void *) {}
HOOK __tsan_func_exit() {}
HOOK __tsan_vptr_update(void **, void *) {}
HOOK __tsan_vptr_read(void **) {}
// clang++ names these where g++ leaves memcpy and memset.
extern "C" void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
  note_range<false>(from, bytes);
  note_range<true>(to, bytes);
  return memcpy(to, from, bytes);
}
extern "C" void *__tsan_memmove(void *to, const void *from, size_t bytes) {
  note_range<false>(from, bytes);
  note_range<true>(to, bytes);
  return memmove(to, from, bytes);
}
extern "C" void *__tsan_memset(void *to, int value, size_t bytes) {
  note_range<true>(to, bytes);
  return memset(to, value, bytes);
}
