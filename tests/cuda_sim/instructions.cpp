// The instructions that kernels reach through inline PTX: asynchronous copies, and fragments of tensor cores.

#include <algorithm>
#include <vector>

#include "simulator.h"

namespace cuda_sim {
namespace {

/** A copy that was begun and not yet waited for, and what its source held then. */
struct Copy {
  unsigned char *to;
  const unsigned char *from;
  unsigned bytes, source_bytes, group;
  unsigned char source[16];
};

/** Of one thread. */
struct Copies {
  std::vector<Copy> pending;
  unsigned group = 0;
};
Copies copies[MAX_BLOCK_THREADS];

Copies &own_copies() { return copies[access_state.thread]; }

/** Its bytes are those of the moment at which it was begun: a source that changed meanwhile gives no certain result. */
void land(const Copy &copy) {
  if (memcmp(copy.source, copy.from, copy.source_bytes) != 0) {
    fault(LAUNCH_FAILURE, "the source of an asynchronous copy was changed before the copy was waited for");
  }
  note_shared(copy.to, copy.bytes, Touch::LANDING);
  memset(copy.to, 0, copy.bytes);
  memcpy(copy.to, copy.source, copy.source_bytes);
}

float bf16_low(uint32_t pair) { return __builtin_bit_cast(float, pair << 16); }
float bf16_high(uint32_t pair) { return __builtin_bit_cast(float, pair & 0xffff0000u); }

/** What a lane brings to a product and takes from it. */
struct Fragments {
  uint32_t a[4], b[2];
  float d[4];
};
static_assert(sizeof(Fragments) <= DEPOSIT_BYTES);

/** The product of a whole warp: d += a · b. */
void multiply(Deposit *lanes) {
  float a[16][16], b[16][8], d[16][8];
  for (unsigned lane = 0; lane < 32; lane++) {
    const Fragments &own = *reinterpret_cast<const Fragments *>(lanes[lane].bytes);
    const unsigned group = lane / 4, pair = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) {
      float *row = &a[group + i % 2 * 8][pair + i / 2 * 8];
      row[0] = bf16_low(own.a[i]);
      row[1] = bf16_high(own.a[i]);
      d[group + i / 2 * 8][pair + i % 2] = own.d[i];
    }
    for (unsigned i = 0; i < 2; i++) {
      b[pair + i * 8][group] = bf16_low(own.b[i]);
      b[pair + i * 8 + 1][group] = bf16_high(own.b[i]);
    }
  }
  for (unsigned m = 0; m < 16; m++) {
    for (unsigned k = 0; k < 16; k++) {
      for (unsigned n = 0; n < 8; n++) d[m][n] += a[m][k] * b[k][n];
    }
  }
  for (unsigned lane = 0; lane < 32; lane++) {
    Fragments &own = *reinterpret_cast<Fragments *>(lanes[lane].bytes);
    for (unsigned i = 0; i < 4; i++) own.d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

} // namespace

void begin_copies(unsigned threads) {
  begin_products(threads);
  for (unsigned i = 0; i < threads; i++) {
    copies[i].pending.clear();
    copies[i].group = 0;
  }
}

bool has_copies(unsigned thread) {
  end_products();
  return !copies[thread].pending.empty();
}

void async_copy(void *shared, const void *global, unsigned bytes, unsigned source_bytes) {
  if (!is_device(global) && source_bytes > 0) {
    fault(ILLEGAL_ADDRESS, "asynchronous copy from what is not device memory");
  }
  if ((bytes != 4 && bytes != 8 && bytes != 16) || source_bytes > bytes ||
      (reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % bytes != 0) {
    fault(MISALIGNED_ADDRESS, "asynchronous copy of a wrong size or alignment");
  }
  if (!is_shared(shared)) fault(ILLEGAL_ADDRESS, "asynchronous copy to what is not shared memory");
  if (is_counted && source_bytes > 0) {
    count_access(__builtin_return_address(0), global, source_bytes, false);
    count_access(__builtin_return_address(0), shared, bytes, true);
  }
  Copy copy = {static_cast<unsigned char *>(shared), static_cast<const unsigned char *>(global), bytes,
               source_bytes, own_copies().group, {}};
  for (unsigned i = 0; i < source_bytes; i += 4) {
    note_access(copy.from + i, std::min(4u, source_bytes - i), false);
  }
  memcpy(copy.source, global, source_bytes);
  note_shared(shared, bytes, Touch::COPY);
  own_copies().pending.push_back(copy);
}

void async_commit() { own_copies().group++; }

void async_wait(unsigned pending) {
  Copies &own = own_copies();
  const auto is_waited = [&](const Copy &copy) { return copy.group + pending < own.group; };
  const auto rest = std::find_if_not(own.pending.begin(), own.pending.end(), is_waited);
  std::for_each(own.pending.begin(), rest, land);
  own.pending.erase(own.pending.begin(), rest);
}

void ldmatrix(uint32_t *out, int count, const void *row, bool is_transposed) {
  const unsigned own = lane(), major = own / 4, minor = own % 4 * 2;
  if (own < unsigned(count) * 8) {
    if (!is_shared(row)) fault(ILLEGAL_ADDRESS, "ldmatrix from what is not shared memory");
    note_access(row, 16, false);
    if (is_counted) count_access(__builtin_return_address(0), row, 16, false);
  }
  const Deposit *all = exchange(~0u, &row, sizeof row);
  for (int m = 0; m < count; m++) {
    uint16_t pair[2];
    for (unsigned i = 0; i < 2; i++) {
      const unsigned r = is_transposed ? minor + i : major, c = is_transposed ? major : minor + i;
      pair[i] = deposited<const uint16_t *>(all, unsigned(m) * 8 + r)[c];
    }
    out[m] = pair[0] | uint32_t(pair[1]) << 16;
  }
}

void mma_bf16_16x8x16(float *d, const uint32_t *a, const uint32_t *b, const float *c) {
  Fragments own;
  memcpy(own.a, a, sizeof own.a);
  memcpy(own.b, b, sizeof own.b);
  memcpy(own.d, c, sizeof own.d);
  Deposit *all = exchange(~0u, &own, sizeof own);
  if (is_first_of(all)) multiply(all);
  memcpy(d, all[lane()].bytes + offsetof(Fragments, d), sizeof own.d);
}

} // namespace cuda_sim
