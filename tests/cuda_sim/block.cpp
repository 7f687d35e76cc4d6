// Runs the threads of a block as fibers: barriers, warp operations, tensor core fragments, asynchronous copies.

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "simulator.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

// Saves what a call must keep on the old stack, and goes on with the new one.
extern "C" void cuda_sim_switch(void **old_stack, void *new_stack);
#if defined(__x86_64__)
asm(R"(
.text
.globl cuda_sim_switch
.type cuda_sim_switch, @function
cuda_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_sim_switch, .-cuda_sim_switch
)");
#else
#error "the simulator's fibers are written for x86_64"
#endif

namespace cuda_sim {
namespace {

constexpr size_t STACK_BYTES = 128 * 1024;
constexpr unsigned MAX_WARPS = MAX_BLOCK_THREADS / 32;

enum class State : uint8_t { READY, AT_BARRIER, AT_WARP, DONE };

struct Copy {
  void *to;
  const void *from;
  unsigned bytes, source_bytes, group;
};

struct Thread {
  void *stack;
  State state;
  unsigned group;
  dim3 index;
  std::vector<Copy> copies;
};

struct Warp {
  unsigned alive, arrived, mask, round;
  uint32_t sync;
  Deposit deposits[2][32];
};

struct Variable {
  const void *key;
  size_t offset;
};

unsigned char *const stacks = static_cast<unsigned char *>(
    mmap(nullptr, STACK_BYTES * MAX_BLOCK_THREADS, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
Thread threads[MAX_BLOCK_THREADS];
Warp warps[MAX_WARPS];
std::vector<Variable> variables;
/** Numbers of the threads in the order in which they run. */
unsigned order[MAX_BLOCK_THREADS];
const Launch *running = nullptr;
void *scheduler_stack;
unsigned current, position, thread_count, alive, at_barrier;
bool is_faulted;
Entry *entries = nullptr;

/** Goes on with the first thread that can run from place `from` of the order; without one, with the scheduler. */
void switch_from(void **old_stack, unsigned from) {
  for (unsigned i = from; i < thread_count && !is_faulted; i++) {
    Thread &thread = threads[order[i]];
    if (thread.state != State::READY) continue;
    position = i;
    current = order[i];
    threadIdx = thread.index;
    access_state.thread = current;
    access_state.warp_sync = std::max(warps[current / 32].sync, access_state.block_sync);
    access_state.is_in_kernel = true;
    cuda_sim_switch(old_stack, thread.stack);
    return;
  }
  access_state.is_in_kernel = false;
  if (old_stack != &scheduler_stack) cuda_sim_switch(old_stack, scheduler_stack);
}

void yield() { switch_from(&threads[current].stack, position + 1); }

void meet_warp(Warp &warp, unsigned first) {
  const unsigned expected = warp.mask & warp.alive;
  if (warp.arrived == 0 || (warp.arrived & expected) != expected) return;
  for (unsigned i = 0; i < 32; i++) {
    if (warp.arrived >> i & 1) threads[first + i].state = State::READY;
    else memset(&warp.deposits[warp.round][i], 0xff, sizeof(Deposit));
  }
  warp.arrived = 0;
  warp.round ^= 1;
  warp.sync = ++access_state.clock;
}

void meet_block() {
  if (alive == 0 || at_barrier != alive) return;
  for (unsigned i = 0; i < thread_count; i++) {
    if (threads[i].state == State::AT_BARRIER) threads[i].state = State::READY;
  }
  at_barrier = 0;
  access_state.block_sync = ++access_state.clock;
}

void thread_main() {
  running->entry->call(*running->entry, running->arguments);
  Thread &thread = threads[current];
  if (!thread.copies.empty()) fault(LAUNCH_FAILURE, "thread ended before its asynchronous copies");
  thread.state = State::DONE;
  alive--;
  warps[current / 32].alive &= ~(1u << current % 32);
  meet_warp(warps[current / 32], current / 32 * 32);
  meet_block();
  yield();
  abort();
}

void prepare(unsigned count) {
  const dim3 &block = running->block;
  const uint32_t start = ++access_state.clock;
  access_state.block_start = access_state.block_sync = start;
  memset(shared_memory, 0xff, access_state.shared_bytes);
  thread_count = alive = count;
  at_barrier = 0;
  for (unsigned i = 0; i < count; i++) {
    Thread &thread = threads[i];
    thread.state = State::READY;
    thread.group = 0;
    thread.copies.clear();
    thread.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    void **top = reinterpret_cast<void **>(stacks + STACK_BYTES * (i + 1));
    // A return address to nowhere, then the entry, then six registers.
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(thread_main);
    top -= 6;
    thread.stack = top;
  }
  for (unsigned w = 0; w * 32 < count; w++) {
    const unsigned lanes = std::min(32u, count - w * 32);
    warps[w].alive = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warps[w].arrived = warps[w].round = 0;
    warps[w].sync = start;
  }
}

void run_block(unsigned count) {
  prepare(count);
  while (alive > 0) {
    current = MAX_BLOCK_THREADS;
    switch_from(&scheduler_stack, 0);
    if (is_faulted) return;
    if (current != MAX_BLOCK_THREADS) continue;
    fail(LAUNCH_FAILURE, std::string("simulator: kernel ") + running->entry->name + " hangs: " +
                             std::to_string(at_barrier) + " of " + std::to_string(alive) +
                             " threads stand at __syncthreads, the others in a warp operation that " +
                             "not all its lanes reach");
    is_faulted = true;
  }
}

void arrange(unsigned count) {
  for (unsigned i = 0; i < count; i++) order[i] = i;
  uint64_t random = running->seed;
  if (random == 0) return;
  for (unsigned i = count; i > 1; i--) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i - 1], order[(random >> 33) % i]);
  }
}

float bf16(uint32_t bits) { return __builtin_bit_cast(float, bits << 16); }

} // namespace

void fault(int status, const std::string &message) {
  if (!access_state.is_in_kernel) return;
  access_state.is_in_kernel = access_state.is_atomic = false;
  is_faulted = true;
  char where[128];
  snprintf(where, sizeof where, ", block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x,
           blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  fail(status, std::string("simulator: kernel ") + running->entry->name + where + message);
  yield();
}

void run(const Launch &launch) {
  running = &launch;
  is_faulted = false;
  variables.clear();
  access_state.shared_bytes = launch.shared_bytes;
  gridDim = launch.grid;
  blockDim = launch.block;
  const unsigned count = launch.block.x * launch.block.y * launch.block.z;
  arrange(count);
  for (unsigned z = 0; z < launch.grid.z && !is_faulted; z++)
    for (unsigned y = 0; y < launch.grid.y && !is_faulted; y++)
      for (unsigned x = 0; x < launch.grid.x && !is_faulted; x++) {
        blockIdx = {x, y, z};
        run_block(count);
      }
}

void register_entry(Entry *entry) {
  entry->next = entries;
  entries = entry;
}

const Entry *find_entry(const std::string &name) {
  for (const Entry *entry = entries; entry != nullptr; entry = entry->next) {
    if (name == entry->name) return entry;
  }
  return nullptr;
}

unsigned lane() { return current % 32; }

void block_barrier() {
  threads[current].state = State::AT_BARRIER;
  at_barrier++;
  meet_block();
  if (threads[current].state == State::READY) {
    access_state.warp_sync = access_state.block_sync;
    threadIdx = threads[current].index;
    return;
  }
  yield();
}

const Deposit *exchange(unsigned mask, const void *data, size_t bytes) {
  Warp &warp = warps[current / 32];
  const unsigned own = current % 32;
  if (bytes > DEPOSIT_BYTES) abort();
  if ((mask >> own & 1) == 0) fault(LAUNCH_FAILURE, "warp operation whose mask lacks the caller");
  if (warp.arrived != 0 && warp.mask != mask) {
    fault(LAUNCH_FAILURE, "lanes of one warp are in warp operations with different masks");
  }
  Deposit *deposits = warp.deposits[warp.round];
  if (warp.arrived == 0) warp.mask = mask;
  memcpy(deposits[own].bytes, data, bytes);
  warp.arrived |= 1u << own;
  threads[current].state = State::AT_WARP;
  meet_warp(warp, current / 32 * 32);
  if (threads[current].state == State::READY) access_state.warp_sync = warp.sync;
  else yield();
  return deposits;
}

void *dynamic_shared() { return shared_memory; }

void *static_shared(const void *key, size_t bytes, size_t alignment) {
  for (const Variable &one : variables) {
    if (one.key == key) return shared_memory + one.offset;
  }
  const size_t start = (access_state.shared_bytes + alignment - 1) / alignment * alignment;
  if (start + bytes > SHARED_MAX || start + bytes - running->shared_bytes > SHARED_DEFAULT) {
    fault(TOO_MANY_RESOURCES, "more shared memory than a block can have");
  }
  access_state.shared_bytes = unsigned(start + bytes);
  memset(shared_memory + start, 0xff, bytes);
  variables.push_back({key, start});
  return shared_memory + start;
}

void async_copy(void *shared, const void *global, unsigned bytes, unsigned source_bytes) {
  Thread &thread = threads[current];
  if (!is_device(global) && source_bytes > 0) {
    fault(ILLEGAL_ADDRESS, "asynchronous copy from what is not device memory");
  }
  if ((bytes != 4 && bytes != 8 && bytes != 16) || source_bytes > bytes ||
      (reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % bytes != 0) {
    fault(MISALIGNED_ADDRESS, "asynchronous copy of a wrong size or alignment");
  }
  thread.copies.push_back({shared, global, bytes, source_bytes, thread.group});
}

void async_commit() { threads[current].group++; }

void async_wait(unsigned pending) {
  Thread &thread = threads[current];
  size_t done = 0;
  for (const Copy &copy : thread.copies) {
    if (copy.group + pending >= thread.group) break;
    for (unsigned i = 0; i < copy.source_bytes; i += 4) {
      note_access(static_cast<const char *>(copy.from) + i, std::min(4u, copy.source_bytes - i), false);
    }
    note_access(copy.to, copy.bytes, true);
    memset(copy.to, 0, copy.bytes);
    memcpy(copy.to, copy.from, copy.source_bytes);
    done++;
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + done);
}

void ldmatrix(uint32_t *out, int count, const void *row, bool is_transposed) {
  const Deposit *all = exchange(~0u, &row, sizeof row);
  const unsigned own = lane(), major = own / 4, minor = own % 4 * 2;
  for (int m = 0; m < count; m++) {
    uint16_t pair[2];
    for (unsigned i = 0; i < 2; i++) {
      const unsigned r = is_transposed ? minor + i : major, c = is_transposed ? major : minor + i;
      const uint16_t *place = deposited<const uint16_t *>(all, unsigned(m) * 8 + r);
      if (reinterpret_cast<uintptr_t>(place) % 16 != 0) fault(MISALIGNED_ADDRESS, "ldmatrix row");
      note_access(place + c, 2, false);
      pair[i] = place[c];
    }
    out[m] = pair[0] | uint32_t(pair[1]) << 16;
  }
}

void mma_bf16_16x8x16(float *d, const uint32_t *a, const uint32_t *b, const float *c) {
  uint32_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const Deposit *all = exchange(~0u, words, sizeof words);
  const unsigned group = lane() / 4, pair = lane() % 4;
  float sums[4] = {c[0], c[1], c[2], c[3]};
  for (unsigned k = 0; k < 4; k++) {
    uint32_t rows[6], columns[2][6];
    memcpy(rows, all[group * 4 + k].bytes, sizeof rows);
    for (unsigned j = 0; j < 2; j++) memcpy(columns[j], all[(pair * 2 + j) * 4 + k].bytes, sizeof rows);
    for (unsigned i = 0; i < 4; i++) {
      const uint32_t low = rows[i / 2], high = rows[i / 2 + 2], *column = columns[i % 2] + 4;
      sums[i] += bf16(low & 0xffff) * bf16(column[0] & 0xffff) + bf16(low >> 16) * bf16(column[0] >> 16);
      sums[i] += bf16(high & 0xffff) * bf16(column[1] & 0xffff) + bf16(high >> 16) * bf16(column[1] >> 16);
    }
  }
  for (unsigned i = 0; i < 4; i++) d[i] = sums[i];
}

} // namespace cuda_sim
