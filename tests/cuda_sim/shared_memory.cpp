// Shared memory of the running block, and who touched each of its bytes last. Two accesses of which one writes need a barrier
// between them unless one thread makes both: without it they are a race, in whatever order the threads happened to run.

#include <algorithm>

#include "simulator.h"

namespace cuda_sim {
namespace {

/** The last accesses to a place. */
struct Cell {
  Stamp write, read;
};

// A word has one cell as long as its four bytes are always touched together.
constexpr size_t WORD = 4;
Cell *const words = reinterpret_cast<Cell *>(reserve(SHARED_BYTES / WORD * sizeof(Cell)));
Cell *const bytes_apart = reinterpret_cast<Cell *>(reserve(SHARED_BYTES * sizeof(Cell)));
unsigned char *const is_apart = reserve(SHARED_BYTES / WORD);

std::string at_text(const Cell &cell) {
  const bool is_word = &cell >= words && &cell < words + SHARED_BYTES / WORD;
  return "byte " + std::to_string(is_word ? (&cell - words) * WORD : size_t(&cell - bytes_apart));
}

const char *noun(Touch touch) {
  switch (touch) {
  case Touch::READ: case Touch::PRODUCT: return "read";
  case Touch::WRITE: return "write";
  default: return "asynchronous copy";
  }
}

enum class Against { COPY, WRITE, READ };

/** Two accesses of which neither comes first. */
[[gnu::cold]] void race(const Cell &cell, Touch touch, Against other) {
  std::string what = "another thread read with no barrier in between";
  if (other == Against::WRITE) what = writer_text(cell.write) + " wrote with no barrier in between";
  if (other == Against::COPY) {
    what = "an asynchronous copy of thread " + std::to_string(cell.write.who & NUMBER) + " is on its way to";
  }
  fault(LAUNCH_FAILURE, std::string("race in shared memory: ") + noun(touch) +
                            (touch == Touch::COPY ? " to " : " of ") + at_text(cell) + " that " + what);
}

[[gnu::cold]] void uninitialised(const Cell &cell) {
  fault(LAUNCH_FAILURE, "read of uninitialised shared memory at " + at_text(cell));
}

[[gnu::cold]] void unfenced(const Cell &cell) {
  fault(LAUNCH_FAILURE, "wgmma reads " + at_text(cell) + " of shared memory, which " + writer_text(cell.write) +
                            " wrote without fence.proxy.async and a barrier after it");
}

/** The reader of a cell after the running thread has read it too. */
inline uint16_t joined_reader(Stamp reader) {
  const Access &now = access_state;
  if (reader.who == now.thread || reader.who == NOBODY || reader.time < now.block_sync) return uint16_t(now.thread);
  const uint16_t warp = uint16_t(IS_WARP | now.thread / 32);
  const bool is_same = reader.who == warp || (reader.who < NOBODY && reader.who / 32u == now.thread / 32);
  return is_same ? warp : SEVERAL;
}

template <Touch TOUCH> inline void touch_cell(Cell &cell) {
  const Access &now = access_state;
  if (TOUCH == Touch::LANDING) {
    cell.write = stamp_of_write();
    return;
  }
  const bool is_set = cell.write.time >= now.block_start;
  if (is_set && cell.write.who & IS_COPY) return race(cell, TOUCH, Against::COPY);
  if (is_set && !is_ordered(cell.write)) return race(cell, TOUCH, Against::WRITE);
  if (TOUCH == Touch::READ || TOUCH == Touch::PRODUCT) {
    if (!is_set) return uninitialised(cell);
    if (TOUCH == Touch::PRODUCT && !is_proxy_fenced(cell.write)) return unfenced(cell);
    if (!now.is_atomic) cell.read = {now.clock, joined_reader(cell.read)};
    return;
  }
  const bool was_read = cell.read.time >= now.block_start && cell.read.who != NOBODY;
  if (was_read && !is_ordered(cell.read)) return race(cell, TOUCH, Against::READ);
  cell.write = stamp_of_write();
  if (TOUCH == Touch::COPY) cell.write.who |= IS_COPY;
  cell.read.who = NOBODY;
}

[[gnu::cold]] void out_of_bounds(size_t start, Touch touch) {
  fault(ILLEGAL_ADDRESS, std::string("out-of-bounds ") + noun(touch) + " at byte " +
                             std::to_string(start) + " of " +
                             std::to_string(access_state.shared_bytes) + " bytes of shared memory");
}

/** A word whose bytes have been touched apart, or are now: those from `start` to `end`. */
template <Touch TOUCH> void touch_apart(size_t word, size_t start, size_t end) {
  Cell *const apart = bytes_apart + word * WORD;
  if (!is_apart[word]) std::fill(apart, apart + WORD, words[word]);
  is_apart[word] = 1;
  for (size_t byte = start; byte < end; byte++) touch_cell<TOUCH>(bytes_apart[byte]);
  if (end - start == WORD && TOUCH != Touch::READ) {
    words[word] = apart[0];
    is_apart[word] = 0;
  }
}

template <Touch TOUCH> inline void touch(size_t start, size_t end) {
  if (end > access_state.shared_bytes) return out_of_bounds(start, TOUCH);
  for (size_t at = start; at < end;) {
    const size_t word = at / WORD, next = std::min((word + 1) * WORD, end);
    if (next - at == WORD && !is_apart[word]) touch_cell<TOUCH>(words[word]);
    else touch_apart<TOUCH>(word, at, next);
    at = next;
  }
}

} // namespace

unsigned char *const shared_memory = reserve(SHARED_BYTES);

std::string writer_text(Stamp writer) {
  return writer.who == BY_ATOMIC ? "an atomic operation" : "thread " + std::to_string(writer.who);
}

void note_shared(const void *place, unsigned bytes, Touch kind) {
  const size_t start = static_cast<const unsigned char *>(place) - shared_memory, end = start + bytes;
  if (has_products && (kind == Touch::WRITE || kind == Touch::COPY) && is_read_by_product(start, end)) {
    fault(LAUNCH_FAILURE, std::string(noun(kind)) + " of byte " + std::to_string(start) +
                              " of shared memory that a wgmma product still reads");
  }
  switch (kind) {
  case Touch::READ: return touch<Touch::READ>(start, end);
  case Touch::WRITE: return touch<Touch::WRITE>(start, end);
  case Touch::COPY: return touch<Touch::COPY>(start, end);
  case Touch::LANDING: return touch<Touch::LANDING>(start, end);
  case Touch::PRODUCT: return touch<Touch::PRODUCT>(start, end);
  }
}

} // namespace cuda_sim
