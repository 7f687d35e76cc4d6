// Hopper's products of a warpgroup (wgmma.mma_async.m64nNk16 of bf16). They go on after they were begun: until a thread has
// waited for them its registers hold nothing that can be used, and shared memory that they read may not change. Operands in
// shared memory have the 128-byte swizzle. A warp's part of a product needs no other warp, so it is computed when the warp
// begins it and shown when it is waited for; that all four warps execute the same instructions is checked.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "simulator.h"

namespace cuda_sim {
namespace {

constexpr unsigned GROUP_WARPS = 4, MAX_WARPS = MAX_BLOCK_THREADS / 32, DEPTH = 16, MAX_COLUMNS = 128, UNIT = 16;

/** Units of 16 bytes of shared memory, and how many products that are not done read each. */
uint16_t unit_readers[SHARED_BYTES / UNIT];

/** What a warp's part of a product reads; it is done when all lanes have waited. */
struct Region {
  std::vector<uint16_t> units;

  ~Region() {
    for (const uint16_t unit : units) unit_readers[unit]--;
  }
};

/** Registers of a thread that products use: memory that the compiler sees, as the kernel names it. */
struct Registers {
  unsigned char *start;
  size_t bytes;
  /** Number of the group of the newest product; in use until it was waited for. */
  unsigned group;
  bool is_in_use;
  /** Whether the thread has used them since its last wgmma.fence. */
  bool is_touched;
  /** Of sums in use, what they are to become. */
  std::vector<float> sums;
};

struct ThreadState {
  std::vector<Registers> registers;
  std::vector<std::pair<unsigned, std::shared_ptr<Region>>> regions;
  /** Times of fence.proxy.async, ascending. */
  std::vector<uint64_t> proxy_fences;
  unsigned group = 0;
  bool has_fenced = false;
};
ThreadState states[MAX_BLOCK_THREADS];

/** One product as every thread of a warpgroup has to ask for it. */
struct Product {
  uint64_t a, b;
  unsigned columns;
  bool is_a_shared, is_added;

  bool operator==(const Product &other) const {
    return a == other.a && b == other.b && columns == other.columns && is_a_shared == other.is_a_shared &&
           is_added == other.is_added;
  }
};

/** What a lane brings. */
struct Brought {
  Product product;
  uint32_t a[4];
};
static_assert(sizeof(Brought) <= DEPOSIT_BYTES);

/** What a warp has begun; `a` and `b` are the operands of its newest product. */
struct WarpState {
  unsigned begun, taken, passed;
  float a[16][DEPTH], b[DEPTH][MAX_COLUMNS];
  /** Of its newest product, until all lanes have it. */
  std::shared_ptr<Region> region;
};
WarpState warp_states[MAX_WARPS];
/** Of each warpgroup, by the warp that came first. */
std::vector<Product> products[MAX_WARPS / GROUP_WARPS];
/** Lines of the other instructions, likewise. */
std::vector<int> lines[MAX_WARPS / GROUP_WARPS];
unsigned thread_count, ended;

ThreadState &own_state() { return states[access_state.thread]; }

float bf16_value(uint16_t bits) { return __builtin_bit_cast(float, uint32_t(bits) << 16); }

/** The fields of a matrix descriptor, in bytes. */
struct Descriptor {
  unsigned start, leading, stride;

  explicit Descriptor(uint64_t bits)
      : start(unsigned(bits & 0x3fff) << 4), leading(unsigned(bits >> 16 & 0x3fff) << 4),
        stride(unsigned(bits >> 32 & 0x3fff) << 4) {
    if (bits >> 62 != 1) fault(INVALID_VALUE, "simulator: wgmma with another swizzle than that of 128 bytes");
    if ((bits >> 49 & 7) != 0 || start % 1024 >= 128) {
      fault(MISALIGNED_ADDRESS, "wgmma: the pattern of an operand does not begin at a multiple of 1024 bytes");
    }
  }

  /** Where the element of column `k` of row `row` lies, K-major: rows of 64 columns, groups of eight rows. */
  unsigned by_columns(unsigned row, unsigned k) const {
    return swizzled(start + row / 8 * stride + row % 8 * 128 + k * 2);
  }
  /** Where the element of row `k` and column `n` lies, N-major: panels of 64 columns, groups of eight rows. */
  unsigned by_rows(unsigned k, unsigned n) const {
    return swizzled(start + n / 64 * leading + k / 8 * stride + k % 8 * 128 + n % 64 * 2);
  }
  /** 16-byte chunks of 128 bytes change places by the number of the 128 bytes. */
  static unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }
};

/** Reads elements of shared memory for a warp's part of a product. */
class Reader {
public:
  explicit Reader(Region &region) : region(region) {}

  float operator()(unsigned address) {
    const unsigned unit = address / UNIT;
    if (unit >= SHARED_BYTES / UNIT) fault(ILLEGAL_ADDRESS, "wgmma: an operand lies beyond shared memory");
    if (std::find(region.units.rbegin(), region.units.rend(), unit) == region.units.rend()) {
      note_shared(shared_memory + unit * UNIT, UNIT, Touch::PRODUCT);
      region.units.push_back(uint16_t(unit));
      unit_readers[unit]++;
    }
    uint16_t bits;
    memcpy(&bits, shared_memory + address, sizeof bits);
    return bf16_value(bits);
  }

private:
  Region &region;
};

/** The part of a warp's operands that is the same for all lanes; done by the lane that comes first. */
void gather(const Deposit *lanes) {
  const unsigned warp = access_state.thread / 32;
  const Brought first = deposited<Brought>(lanes, 0);
  WarpState &state = warp_states[warp];
  for (unsigned lane = 1; lane < 32; lane++) {
    if (!(deposited<Brought>(lanes, lane).product == first.product)) {
      fault(LAUNCH_FAILURE, "lanes of one warp begin different wgmma products");
    }
  }
  std::vector<Product> &all = products[warp / GROUP_WARPS];
  if (state.begun == all.size()) all.push_back(first.product);
  if (!(all[state.begun++] == first.product)) {
    fault(LAUNCH_FAILURE, "warps of one warpgroup begin different wgmma products");
  }
  state.taken = 0;
  state.region = std::make_shared<Region>();
  Reader read(*state.region);
  const Descriptor b(first.product.b);
  for (unsigned k = 0; k < DEPTH; k++) {
    for (unsigned n = 0; n < first.product.columns; n++) {
      state.b[k][n] = read(first.product.is_a_shared ? b.by_columns(n, k) : b.by_rows(k, n));
    }
  }
  if (first.product.is_a_shared) {
    // The manual does not say that a warp reads its own rows only.
    const Descriptor a(first.product.a);
    for (unsigned m = 0; m < GROUP_WARPS * 16; m++) {
      for (unsigned k = 0; k < DEPTH; k++) {
        const float value = read(a.by_columns(m, k));
        if (m / 16 == warp % GROUP_WARPS) state.a[m % 16][k] = value;
      }
    }
    return;
  }
  for (unsigned lane = 0; lane < 32; lane++) {
    const Brought one = deposited<Brought>(lanes, lane);
    for (unsigned i = 0; i < 4; i++) {
      float *pair = &state.a[lane / 4 + i % 2 * 8][lane % 4 * 2 + i / 2 * 8];
      pair[0] = bf16_value(uint16_t(one.a[i]));
      pair[1] = bf16_value(uint16_t(one.a[i] >> 16));
    }
  }
}

/** A fence, commit or wait at a line of the source, which all warps of a warpgroup come to. */
void pass(int line) {
  if (!is_first_of(exchange(~0u, "", 0))) return;
  const unsigned warp = access_state.thread / 32;
  std::vector<int> &all = lines[warp / GROUP_WARPS];
  if (warp_states[warp].passed == all.size()) all.push_back(line);
  if (all[warp_states[warp].passed++] != line) {
    fault(LAUNCH_FAILURE, "warps of one warpgroup execute different wgmma instructions");
  }
}

/** Registers of the running thread, from now on in use by a product of the open group. */
Registers &use_registers(const void *place, size_t bytes) {
  ThreadState &state = own_state();
  unsigned char *start = static_cast<unsigned char *>(const_cast<void *>(place));
  const auto is_same = [&](const Registers &one) { return one.start == start && one.bytes == bytes; };
  auto found = std::find_if(state.registers.begin(), state.registers.end(), is_same);
  if (found == state.registers.end()) {
    found = state.registers.insert(found, {start, bytes, 0, false, !state.has_fenced, {}});
  }
  if (found->is_touched) fault(LAUNCH_FAILURE, "registers of a wgmma product were used after the last wgmma.fence");
  found->group = state.group;
  return *found;
}

/** The sums of the running thread, which nobody can use until they are waited for. */
std::vector<float> &use_sums(float *place, unsigned count, bool is_added) {
  Registers &sums = use_registers(place, count * sizeof(float));
  if (!sums.is_in_use) sums.sums.assign(place, place + count);
  if (!is_added) std::fill(sums.sums.begin(), sums.sums.end(), 0.0f);
  sums.is_in_use = true;
  memset(place, 0xff, count * sizeof(float));
  return sums.sums;
}

void begin(float *d, const Product &product, const uint32_t *a) {
  if (product.columns > MAX_COLUMNS || product.columns % 8 != 0) abort();
  Brought own = {product, {}};
  if (a != nullptr) memcpy(own.a, a, sizeof own.a);
  Deposit *all = exchange(~0u, &own, sizeof own);
  if (is_first_of(all)) gather(all);
  WarpState &warp = warp_states[access_state.thread / 32];
  ThreadState &state = own_state();
  std::vector<float> &sums = use_sums(d, product.columns / 2, product.is_added);
  for (unsigned i = 0; i < sums.size(); i++) {
    const float *row = warp.a[lane() / 4 + i % 4 / 2 * 8];
    for (unsigned k = 0; k < DEPTH; k++) sums[i] += row[k] * warp.b[k][i / 4 * 8 + lane() % 4 * 2 + i % 2];
  }
  if (a != nullptr) use_registers(a, sizeof own.a).is_in_use = true;
  state.regions.push_back({state.group, warp.region});
  if (++warp.taken == 32) warp.region.reset();
}

} // namespace

bool has_products = false;

void begin_products(unsigned threads) {
  thread_count = threads;
  ended = 0;
  has_products = false;
  for (WarpState &warp : warp_states) warp.begun = warp.passed = 0, warp.region.reset();
  for (unsigned i = 0; i < threads; i++) states[i] = ThreadState();
  for (std::vector<Product> &all : products) all.clear();
  for (std::vector<int> &all : lines) all.clear();
}

void end_products() {
  for (const Registers &one : own_state().registers) {
    if (one.is_in_use) fault(LAUNCH_FAILURE, "thread ended before its wgmma products");
  }
  if (++ended < thread_count) return;
  for (unsigned warp = 0; warp < thread_count / 32; warp++) {
    if (warp_states[warp].begun != products[warp / GROUP_WARPS].size()) {
      fault(LAUNCH_FAILURE, "warps of one warpgroup have begun different numbers of wgmma products");
    }
  }
}

bool is_read_by_product(size_t start, size_t end) {
  return std::any_of(unit_readers + start / UNIT, unit_readers + (end + UNIT - 1) / UNIT,
                     [](uint16_t readers) { return readers > 0; });
}

bool is_proxy_fenced(Stamp write) {
  const Access &now = access_state;
  const std::vector<uint64_t> &fences = states[write.who % MAX_BLOCK_THREADS].proxy_fences;
  const auto fence = std::upper_bound(fences.begin(), fences.end(), uint64_t(write.time));
  return fence != fences.end() && *fence < (write.who / 32 == now.thread / 32 ? now.warp_sync : now.block_sync);
}

void note_registers(const void *place, unsigned bytes) {
  const unsigned char *start = static_cast<const unsigned char *>(place);
  for (Registers &one : own_state().registers) {
    if (start >= one.start + one.bytes || start + bytes <= one.start) continue;
    if (one.is_in_use) fault(LAUNCH_FAILURE, "registers of a wgmma product are used before it is waited for");
    one.is_touched = true;
  }
}

void fence_proxy_async() { own_state().proxy_fences.push_back(++access_state.clock); }

void wgmma_fence(int line) {
  pass(line);
  ThreadState &state = own_state();
  state.has_fenced = true;
  for (Registers &one : state.registers) one.is_touched = false;
}

void wgmma_bf16(float *d, int n, uint64_t a, uint64_t b, bool is_added) {
  has_products = true;
  begin(d, {a, b, unsigned(n), true, is_added}, nullptr);
}

void wgmma_bf16(float *d, int n, const uint32_t *a, uint64_t b) {
  has_products = true;
  begin(d, {0, b, unsigned(n), false, true}, a);
}

void wgmma_commit(int line) {
  pass(line);
  own_state().group++;
}

void wgmma_wait(unsigned pending, int line) {
  pass(line);
  ThreadState &state = own_state();
  const auto is_done = [&](unsigned group) { return group + pending < state.group; };
  for (Registers &one : state.registers) {
    if (!one.is_in_use || !is_done(one.group)) continue;
    one.is_in_use = false;
    if (!one.sums.empty()) memcpy(one.start, one.sums.data(), one.bytes);
  }
  std::erase_if(state.regions, [&](const auto &region) { return is_done(region.first); });
}

} // namespace cuda_sim
