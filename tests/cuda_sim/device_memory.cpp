// Device and shared memory with a shadow. Kernels are compiled with -fsanitize=thread, whose calls before every access land
// here: outside of allocations, uninitialised, misaligned, or (shared memory) not ordered by a barrier is a fault.

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "simulator.h"

namespace cuda_sim {
namespace {

constexpr size_t HEAP_BYTES = size_t(16) << 30, ALIGNMENT = 256, RED_ZONE = 256;
constexpr size_t SHARED_BYTES = 256 * 1024;
constexpr unsigned char INITIALISED = 2, ALLOCATED = 1;
constexpr uint16_t NOBODY = 0xffff, SEVERAL_OF_WARP = 0x8000, SEVERAL = 0xfffe,
                   BY_ATOMIC = 0xfffd;

unsigned char *reserve(size_t bytes) {
  void *place = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) {
    fprintf(stderr, "cuda_sim: cannot reserve %zu bytes of addresses\n", bytes);
    abort();
  }
  return static_cast<unsigned char *>(place);
}

unsigned char *const heap = reserve(HEAP_BYTES);
unsigned char *const shadow = reserve(HEAP_BYTES);
std::map<uintptr_t, size_t> live;
size_t used_bytes = 0;

/** Who touched a byte of shared memory last, and when. */
struct Cell {
  uint32_t written, read;
  uint16_t writer, reader;
};
Cell *const cells = reinterpret_cast<Cell *>(reserve(SHARED_BYTES * sizeof(Cell)));

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

void note_device(const unsigned char *place, unsigned bytes, bool is_written) {
  unsigned char *states = shadow + (place - heap);
  uint32_t first_four;
  memcpy(&first_four, states, sizeof first_four);
  if (bytes == 4 && first_four == 0x01010101u * INITIALISED) return;
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
  if (is_written) memset(states, INITIALISED, bytes);
}

bool is_ordered(uint16_t other, uint32_t time) {
  const Access &now = access_state;
  if (other == now.thread || time < now.block_sync) return true;
  const bool is_several = other >= SEVERAL_OF_WARP;
  if (other == BY_ATOMIC) return now.is_atomic;
  if (other == SEVERAL) return false;
  const unsigned warp = is_several ? other & 0x7fffu : other / 32u;
  return warp == now.thread / 32 && time < now.warp_sync;
}

void note_shared(const unsigned char *place, unsigned bytes, bool is_written) {
  const Access &now = access_state;
  const size_t start = place - shared_memory;
  if (start + bytes > now.shared_bytes) {
    return fault(ILLEGAL_ADDRESS, std::string("out-of-bounds ") + verb(is_written) + " at byte " +
                                      std::to_string(start) + " of " +
                                      std::to_string(now.shared_bytes) + " bytes of shared memory");
  }
  for (size_t at = start; at < start + bytes; at++) {
    Cell &cell = cells[at];
    const bool is_set = cell.written >= now.block_start;
    if (!is_written && !is_set) {
      return fault(LAUNCH_FAILURE,
                   "read of uninitialised shared memory at byte " + std::to_string(at));
    }
    if (is_set && !is_ordered(cell.writer, cell.written)) {
      return fault(LAUNCH_FAILURE, std::string("race in shared memory: ") + verb(is_written) +
                                       " of byte " + std::to_string(at) + " that thread " +
                                       std::to_string(cell.writer) +
                                       " wrote with no barrier in between");
    }
    const bool was_read = cell.read >= now.block_start && cell.reader != NOBODY;
    if (is_written) {
      if (was_read && !is_ordered(cell.reader, cell.read)) {
        return fault(LAUNCH_FAILURE, "race in shared memory: write of byte " + std::to_string(at) +
                                         " that another thread read with no barrier in between");
      }
      cell.written = now.clock;
      cell.writer = now.is_atomic ? BY_ATOMIC : uint16_t(now.thread);
      cell.reader = NOBODY;
      continue;
    }
    if (now.is_atomic) continue;
    if (was_read && cell.reader != now.thread && cell.read >= now.block_sync) {
      const unsigned warp = now.thread / 32;
      const bool is_same = cell.reader == (SEVERAL_OF_WARP | warp) ||
                           (cell.reader < SEVERAL_OF_WARP && cell.reader / 32u == warp);
      cell.reader = is_same ? uint16_t(SEVERAL_OF_WARP | warp) : SEVERAL;
    } else {
      cell.reader = uint16_t(now.thread);
    }
    cell.read = now.clock;
  }
}

} // namespace

unsigned char *const shared_memory = reserve(SHARED_BYTES);
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
  const unsigned char *start = static_cast<const unsigned char *>(place);
  const bool is_heap = size_t(start - heap) < HEAP_BYTES;
  if (!is_heap && size_t(start - shared_memory) >= SHARED_BYTES) {
    if (reinterpret_cast<uintptr_t>(place) >= 65536) return;
    return fault(ILLEGAL_ADDRESS, std::string(verb(is_written)) + " through a null pointer");
  }
  if (bytes <= 16 && reinterpret_cast<uintptr_t>(place) % bytes != 0) {
    return fault(MISALIGNED_ADDRESS, std::string(verb(is_written)) + " of " +
                                         std::to_string(bytes) + " bytes at " + place_text(place));
  }
  if (is_heap) note_device(start, bytes, is_written);
  else note_shared(start, bytes, is_written);
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
