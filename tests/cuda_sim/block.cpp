// Runs the threads of a block as fibers that meet at barriers and in warp operations.

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

// Not a power of two, or the stacks of all threads would want the same lines of the cache.
constexpr size_t STACK_BYTES = 132 * 1024 + 5 * 64;
constexpr unsigned MAX_WARPS = MAX_BLOCK_THREADS / 32;

enum class State : uint8_t { READY, AT_BARRIER, AT_WARP, DONE };

struct Thread {
  void *stack;
  State state;
  /** For the kernels that this one depends on. */
  bool has_waited;
  dim3 index;
};

struct Warp {
  unsigned alive, arrived, mask, round;
  uint64_t sync;
  bool is_asked[2];
  Deposit deposits[2][32];
};

struct Variable {
  const void *key;
  size_t offset;
};

unsigned char *const stacks = reserve(STACK_BYTES * MAX_BLOCK_THREADS);
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
    access_state.is_early = running->is_dependent && !thread.has_waited;
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
  warp.is_asked[warp.round] = false;
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
  if (has_copies(current)) fault(LAUNCH_FAILURE, "thread ended before its asynchronous copies");
  if (access_state.is_early) fault(LAUNCH_FAILURE, "thread ended without griddepcontrol.wait");
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
  const uint64_t start = ++access_state.clock;
  access_state.block_start = access_state.block_sync = start;
  memset(shared_memory, 0xff, access_state.shared_bytes);
  thread_count = alive = count;
  at_barrier = 0;
  begin_copies(count);
  for (unsigned i = 0; i < count; i++) {
    Thread &thread = threads[i];
    thread.state = State::READY;
    thread.has_waited = false;
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

/** 0 ... count - 1, shuffled where the launch has a seed. */
template <class Number> void arrange(Number *numbers, Number count) {
  for (Number i = 0; i < count; i++) numbers[i] = i;
  uint64_t random = running->seed;
  if (random == 0) return;
  for (Number i = count; i > 1; i--) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(numbers[i - 1], numbers[(random >> 33) % i]);
  }
}

} // namespace

void fault(int status, const std::string &message) {
  if (!access_state.is_in_kernel) return;
  access_state.is_in_kernel = access_state.is_atomic = false;
  is_faulted = true;
  char where[128];
  snprintf(where, sizeof where, ", block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x,
           blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  const std::string seed =
      running->seed == 0 ? "" : ", with threads in the order of seed " + std::to_string(running->seed);
  fail(status, std::string("simulator: kernel ") + running->entry->name + where + message + seed);
  yield();
}

void run(const Launch &launch) {
  running = &launch;
  is_faulted = false;
  variables.clear();
  access_state.shared_bytes = launch.shared_bytes;
  access_state.launch_start = ++access_state.clock;
  if (!launch.is_dependent) access_state.settled = access_state.launch_start;
  gridDim = launch.grid;
  blockDim = launch.block;
  const unsigned count = launch.block.x * launch.block.y * launch.block.z;
  arrange(order, count);
  begin_count(launch);
  const uint64_t width = launch.grid.x, area = width * launch.grid.y;
  std::vector<uint64_t> blocks(area * launch.grid.z);
  arrange(blocks.data(), uint64_t(blocks.size()));
  for (size_t i = 0; i < blocks.size() && !is_faulted; i++) {
    const uint64_t number = blocks[i];
    blockIdx = {unsigned(number % width), unsigned(number % area / width), unsigned(number / area)};
    if (is_counted) begin_block_count(count);
    run_block(count);
    if (is_counted) end_block_count();
  }
  if (is_counted) end_count();
}

bool is_first_of(const Deposit *all) {
  Warp &warp = warps[current / 32];
  return !std::exchange(warp.is_asked[all == warp.deposits[1]], true);
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

void wait_for_prerequisites() {
  if (!running->has_wait) return;
  threads[current].has_waited = true;
  access_state.is_early = false;
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

Deposit *exchange(unsigned mask, const void *data, size_t bytes) {
  Warp &warp = warps[current / 32];
  const unsigned own = current % 32;
  if (bytes > DEPOSIT_BYTES) abort();
  if ((mask >> own & 1) == 0) fault(LAUNCH_FAILURE, "warp operation whose mask lacks the caller");
  if (warp.arrived != 0 && warp.mask != mask) {
    fault(LAUNCH_FAILURE, "lanes of one warp are in warp operations with different masks");
  }
  Deposit *deposits = warp.deposits[warp.round];
  if (warp.arrived == 0) warp.mask = mask;
  if (bytes == 4) memcpy(deposits[own].bytes, data, 4);
  else memcpy(deposits[own].bytes, data, bytes);
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
  if (start + bytes > running->shared_max || start + bytes - running->shared_bytes > SHARED_DEFAULT) {
    fault(TOO_MANY_RESOURCES, "more shared memory than a block can have");
  }
  access_state.shared_bytes = unsigned(start + bytes);
  memset(shared_memory + start, 0xff, bytes);
  variables.push_back({key, start});
  return shared_memory + start;
}

} // namespace cuda_sim
