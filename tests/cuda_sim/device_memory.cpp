// Device memory with a shadow. Kernels are compiled with -fsanitize=thread, whose calls before every access land here: outside
// of allocations, uninitialised, misaligned, or touching what another thread of the same launch wrote with no barrier between
// them is a fault. Shared memory is judged in shared_memory.cpp.

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "simulator.h"

namespace cuda_sim {
namespace {

constexpr size_t HEAP_BYTES = size_t(16) << 30, ALIGNMENT = 256, RED_ZONE = 256;
constexpr unsigned char INITIALISED = 2, ALLOCATED = 1;

unsigned char *const heap = reserve(HEAP_BYTES);
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

inline void note_device(const void *place, unsigned bytes, bool is_written) {
  const size_t offset = static_cast<const unsigned char *>(place) - heap;
  unsigned char *states = shadow + offset;
  uint32_t first_four;
  memcpy(&first_four, states, sizeof first_four);
  if (bytes != 4 || first_four != 0x01010101u * INITIALISED) initialise(place, states, bytes, is_written);
  uint64_t &sector_time = sector_times[offset / SECTOR];
  const size_t first = offset / GRAIN, last = (offset + bytes - 1) / GRAIN;
  if (sector_time >= access_state.launch_start) judge_order(place, first, last, is_written);
  if (!is_written) return;
  sector_time = access_state.clock;
  for (size_t grain = first; grain <= last; grain++) writes[grain] = stamp_of_write();
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

bool is_shared(const void *place) {
  return size_t(static_cast<const unsigned char *>(place) - shared_memory) < SHARED_BYTES;
}

bool is_device(const void *place) {
  return size_t(static_cast<const unsigned char *>(place) - heap) < HEAP_BYTES;
}

bool check_range(const char *what, const void *place, size_t bytes, bool is_written) {
  if (bytes == 0) return true;
  const unsigned char *start = static_cast<const unsigned char *>(place);
  if (!is_device(place)) {
    fail(ILLEGAL_ADDRESS, std::string(what) + ": not a device address");
    return false;
  }
  unsigned char *states = shadow + (start - heap);
  for (size_t i = 0; i < bytes; i++) {
    if (states[i] == INITIALISED || (is_written && states[i] == ALLOCATED)) continue;
    const char *kind = states[i] == 0 ? "out-of-bounds" : "uninitialised";
    fail(ILLEGAL_ADDRESS, std::string(what) + ": " + kind + " " + verb(is_written) + " at " +
                              place_text(start + i));
    return false;
  }
  if (is_written) memset(states, INITIALISED, bytes);
  return true;
}

void note_access(const void *place, unsigned bytes, bool is_written) {
  if (!access_state.is_in_kernel) return;
  const bool is_heap = is_device(place);
  if (!is_heap && !is_shared(place)) {
    if (reinterpret_cast<uintptr_t>(place) >= 65536) return;
    return fault(ILLEGAL_ADDRESS, std::string(verb(is_written)) + " through a null pointer");
  }
  if (bytes <= 16 && reinterpret_cast<uintptr_t>(place) % bytes != 0) {
    return fault(MISALIGNED_ADDRESS, std::string(verb(is_written)) + " of " +
                                         std::to_string(bytes) + " bytes at " + place_text(place));
  }
  if (is_heap) note_device(place, bytes, is_written);
  else note_shared(place, bytes, is_written ? Touch::WRITE : Touch::READ);
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

using cuda_sim::note_access;

#define ACCESS(bytes)                                                                              \
  EXPORT void __tsan_read##bytes(void *place) { note_access(place, bytes, false); }                \
  EXPORT void __tsan_write##bytes(void *place) { note_access(place, bytes, true); }                \
  EXPORT void __tsan_unaligned_read##bytes(void *place) { note_access(place, bytes, false); }      \
  EXPORT void __tsan_unaligned_write##bytes(void *place) { note_access(place, bytes, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
// Structures: 16 bytes are what one instruction moves.
EXPORT void __tsan_read_range(void *place, size_t bytes) {
  if (bytes == 16) return note_access(place, 16, false);
  for (size_t i = 0; i < bytes; i++) note_access(static_cast<char *>(place) + i, 1, false);
}
EXPORT void __tsan_write_range(void *place, size_t bytes) {
  if (bytes == 16) return note_access(place, 16, true);
  for (size_t i = 0; i < bytes; i++) note_access(static_cast<char *>(place) + i, 1, true);
}
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void *) {}
EXPORT void __tsan_func_exit() {}
EXPORT void __tsan_vptr_update(void **, void *) {}
EXPORT void __tsan_vptr_read(void **) {}
// clang++ names these where g++ leaves memcpy and memset.
EXPORT void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
  __tsan_read_range(const_cast<void *>(from), bytes);
  __tsan_write_range(to, bytes);
  return memcpy(to, from, bytes);
}
EXPORT void *__tsan_memmove(void *to, const void *from, size_t bytes) {
  __tsan_read_range(const_cast<void *>(from), bytes);
  __tsan_write_range(to, bytes);
  return memmove(to, from, bytes);
}
EXPORT void *__tsan_memset(void *to, int value, size_t bytes) {
  __tsan_write_range(to, bytes);
  return memset(to, value, bytes);
}
