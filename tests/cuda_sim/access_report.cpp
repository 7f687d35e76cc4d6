// What a card's memory would be asked for, counted: with TINYLLAMA_CUDA_SIM_ACCESS=FILE every launch adds a line of JSON to
// the file. Accesses of a warp's lanes are one instruction's where they come from the same place of the code, and each lane
// has been there equally often. Where lanes diverge that is near the truth only: a lane that leaves out a turn of a loop is
// counted beside turns that the others made later, and both arms of a branch count as they would on a card, one by one.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <unordered_map>
#include <vector>

#include "simulator.h"

namespace cuda_sim {

bool is_counted = false;

namespace {

constexpr unsigned LANES = 32, WARPS = MAX_BLOCK_THREADS / LANES;
constexpr size_t SECTOR_BYTES = 32;
constexpr unsigned BANKS = 32, BANK_BYTES = 4;

/** Loads or stores of one operand. */
struct Traffic {
  uint64_t instructions = 0;
  /** Bytes that lanes name, each once an instruction; and those of the sectors in which they lie. */
  uint64_t needed = 0, moved = 0;
  /** Bytes of the sectors that the launch touches, each once; of loads those that it has not stored before. */
  uint64_t distinct = 0;
  /** Accesses of lanes by their width in bytes. */
  std::map<unsigned, uint64_t> widths;
};

struct Operand {
  uintptr_t start;
  unsigned index;
  Traffic loads, stores;
};

/** Lanes of a warp at one instruction. */
struct Group {
  unsigned lanes = 0, bytes = 0;
  bool is_written = false;
  uintptr_t places[LANES];
};

struct Key {
  uint64_t site_and_warp, turn;
  bool operator==(const Key &) const = default;
};
struct KeyHash {
  size_t operator()(const Key &key) const { return (key.site_and_warp * 0x9e3779b97f4a7c15u) ^ (key.turn * 0xc2b2ae3d27d4eb4fu); }
};

const Launch *counted = nullptr;
std::string file_name;
/** In the order of their addresses; the first stands for what is no operand's. */
std::vector<Operand> operands;
std::unordered_map<const void *, unsigned> sites;
/** How often each thread of the block has been at each site. */
std::vector<std::vector<uint32_t>> turns;
std::unordered_map<Key, Group, KeyHash> groups;
unsigned warp_lanes[WARPS];

/** Launches, counted, in which each sector was last loaded and stored. */
uint32_t *last_loaded = nullptr, *last_stored = nullptr;
uint32_t launch_number = 0;

struct SharedTraffic {
  uint64_t accesses = 0, passes = 0, least_passes = 0;
  unsigned worst_ways = 0;
} shared_traffic;

Operand &operand_of(uintptr_t place) {
  const auto after = std::upper_bound(operands.begin(), operands.end(), place,
                                      [](uintptr_t one, const Operand &other) { return one < other.start; });
  return *std::prev(after);
}

/** Counts a sector that the launch had not touched. */
void mark(Traffic &traffic, uintptr_t sector, bool is_written) {
  const size_t number = sector - reinterpret_cast<uintptr_t>(heap) / SECTOR_BYTES;
  uint32_t &last = is_written ? last_stored[number] : last_loaded[number];
  const bool is_known = last == launch_number || (!is_written && last_stored[number] == launch_number);
  last = launch_number;
  if (!is_known) traffic.distinct += SECTOR_BYTES;
}

/** Accesses of one instruction to one operand, in the order of their addresses. */
void count_device(Operand &operand, const uintptr_t *places, unsigned lanes, unsigned bytes, bool is_written) {
  Traffic &traffic = is_written ? operand.stores : operand.loads;
  traffic.instructions++;
  traffic.widths[bytes] += lanes;
  uintptr_t end = 0, next_sector = 0;
  for (unsigned i = 0; i < lanes; i++) {
    const uintptr_t from = std::max(places[i], end), to = places[i] + bytes;
    if (to > from) traffic.needed += to - from;
    end = std::max(end, to);
    const uintptr_t last = (to - 1) / SECTOR_BYTES;
    for (uintptr_t sector = std::max(places[i] / SECTOR_BYTES, next_sector); sector <= last; sector++) {
      traffic.moved += SECTOR_BYTES;
      mark(traffic, sector, is_written);
    }
    next_sector = std::max(next_sector, last + 1);
  }
}

/** How often the banks are asked for an access of `lanes` lanes that go together: the most words in one bank. */
unsigned ways_of(const uintptr_t *places, unsigned lanes, unsigned bytes) {
  std::vector<uintptr_t> words;
  for (unsigned i = 0; i < lanes; i++) {
    for (uintptr_t word = places[i] / BANK_BYTES; word <= (places[i] + bytes - 1) / BANK_BYTES; word++) words.push_back(word);
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  unsigned in_bank[BANKS] = {}, most = 0;
  for (uintptr_t word : words) most = std::max(most, ++in_bank[word % BANKS]);
  return most;
}

/** A warp's access is cut where it would move more than a word for each bank. */
void count_shared(const Group &group) {
  const unsigned together = std::min(LANES, BANKS * BANK_BYTES / std::max(group.bytes, BANK_BYTES));
  shared_traffic.accesses++;
  for (unsigned first = 0; first < group.lanes; first += together) {
    const unsigned ways = ways_of(group.places + first, std::min(together, group.lanes - first), group.bytes);
    shared_traffic.passes += ways;
    shared_traffic.least_passes++;
    shared_traffic.worst_ways = std::max(shared_traffic.worst_ways, ways);
  }
}

void close(Group &group) {
  if (is_shared(reinterpret_cast<const void *>(group.places[0]))) return count_shared(group);
  std::sort(group.places, group.places + group.lanes);
  for (unsigned first = 0; first < group.lanes;) {
    Operand &operand = operand_of(group.places[first]);
    unsigned end = first + 1;
    while (end < group.lanes && &operand_of(group.places[end]) == &operand) end++;
    count_device(operand, group.places + first, end - first, group.bytes, group.is_written);
    first = end;
  }
}

std::string text_of(const Traffic &traffic) {
  char text[256];
  snprintf(text, sizeof text, "{\"instructions\":%lu,\"needed\":%lu,\"moved\":%lu,\"distinct\":%lu,\"widths\":{",
           traffic.instructions, traffic.needed, traffic.moved, traffic.distinct);
  std::string all = text;
  for (const auto &[width, count] : traffic.widths) {
    if (all.back() != '{') all += ",";
    all += "\"" + std::to_string(width) + "\":" + std::to_string(count);
  }
  return all + "}}";
}

} // namespace

void begin_count(const Launch &launch) {
  const char *name = getenv("TINYLLAMA_CUDA_SIM_ACCESS");
  is_counted = name != nullptr && *name != 0;
  if (!is_counted) return;
  file_name = name;
  counted = &launch;
  constexpr size_t STAMPS = HEAP_BYTES / SECTOR_BYTES * sizeof(uint32_t);
  if (last_loaded == nullptr) last_loaded = reinterpret_cast<uint32_t *>(reserve(STAMPS));
  if (last_stored == nullptr) last_stored = reinterpret_cast<uint32_t *>(reserve(STAMPS));
  launch_number++;
  operands.assign(1, {0, ~0u, {}, {}});
  for (unsigned i = 0; i < launch.entry->count; i++) {
    if (launch.entry->sizes[i] == 8) operands.push_back({uintptr_t(launch.arguments[i]), i, {}, {}});
  }
  std::stable_sort(operands.begin(), operands.end(),
                   [](const Operand &one, const Operand &other) { return one.start < other.start; });
  shared_traffic = {};
  sites.clear();
}

void begin_block_count(unsigned threads) {
  for (std::vector<uint32_t> &one : turns) one.assign(MAX_BLOCK_THREADS, 0);
  for (unsigned warp = 0; warp < WARPS; warp++) {
    warp_lanes[warp] = std::min(LANES, threads - std::min(threads, warp * LANES));
  }
}

void count_access(const void *site, const void *place, unsigned bytes, bool is_written) {
  if (!access_state.is_in_kernel || (!is_device(place) && !is_shared(place))) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(place);
  while (bytes > 1 && at % bytes != 0) bytes /= 2;
  const auto [found, is_new] = sites.try_emplace(site, unsigned(sites.size()));
  const unsigned thread = access_state.thread, warp = thread / LANES, number = found->second;
  if (turns.size() <= number) turns.resize(number + 1, std::vector<uint32_t>(MAX_BLOCK_THREADS, 0));
  const bool is_heap = is_device(place);
  const Key key = {(uint64_t(number) * WARPS + warp) * 2 + is_heap, turns[number][thread]++};
  Group &group = groups[key];
  group.bytes = std::max(group.bytes, bytes);
  group.is_written = is_written;
  group.places[group.lanes++] = at;
  if (group.lanes < warp_lanes[warp]) return;
  close(group);
  groups.erase(key);
}

// Loads first: what a launch has stored counts as known when it is loaded.
void end_block_count() {
  for (const bool is_written : {false, true}) {
    for (auto &[key, group] : groups) {
      if (group.is_written == is_written) close(group);
    }
  }
  groups.clear();
}

void end_count() {
  FILE *file = fopen(file_name.c_str(), "a");
  if (file == nullptr) return;
  const Launch &launch = *counted;
  fprintf(file, "{\"kernel\":\"%s\",\"grid\":[%u,%u,%u],\"block\":[%u,%u,%u],\"sharedBytes\":%u,\"operands\":[", launch.entry->name,
          launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x, launch.block.y, launch.block.z, launch.shared_bytes);
  bool is_first = true;
  std::sort(operands.begin(), operands.end(), [](const Operand &one, const Operand &other) { return int(one.index) < int(other.index); });
  for (const Operand &one : operands) {
    if (one.loads.instructions + one.stores.instructions == 0) continue;
    fprintf(file, "%s{\"index\":%d,\"loads\":%s,\"stores\":%s}", is_first ? "" : ",", int(one.index),
            text_of(one.loads).c_str(), text_of(one.stores).c_str());
    is_first = false;
  }
  const SharedTraffic &shared = shared_traffic;
  fprintf(file, "],\"shared\":{\"accesses\":%lu,\"passes\":%lu,\"leastPasses\":%lu,\"worstWays\":%u}}\n", shared.accesses,
          shared.passes, shared.least_passes, shared.worst_ways);
  fclose(file);
  is_counted = false;
}

} // namespace cuda_sim
