// The CUDA driver's C symbols on the host: modules whose entry points are the functions linked in, launches with a card's
// limits.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "simulator.h"

// Of runtime.cpp.
namespace cuda_sim {
bool has_context();
/** Keeps that the graph which a stream is captured into launches a function. */
void note_launch(void *stream, const void *function);
/** Whether a graph that can still be launched does. */
bool is_in_graph(const void *function);
int refuse_while_capturing(const std::string &what);
} // namespace cuda_sim

using namespace cuda_sim;

namespace {

constexpr int INVALID_CONTEXT = 201, NO_BINARY = 209;

/** A function of a module: how PTX and source describe it. */
struct Function {
  const Entry *entry;
  unsigned static_shared, shared_max;
  /** Whether its PTX waits for the kernels before it. */
  bool has_wait;
  /** Dynamic shared memory that a launch may have. */
  unsigned allowed_shared;
};

struct Module {
  std::string text;
  /** What the card was when it was loaded: tests change it for a backend of theirs. */
  unsigned shared_max;
  std::map<std::string, Function> functions;
};

std::set<const Function *> known;

constexpr int PROGRAMMATIC_STREAM_SERIALIZATION = 6;
unsigned dependent_launches = 0;

/** CUlaunchAttribute, of whose values only this one is known here. */
struct LaunchAttribute {
  int id, padding, value;
  char rest[60];
};
static_assert(sizeof(LaunchAttribute) == 72 && offsetof(LaunchAttribute, value) == 8);

/** CUlaunchConfig. */
struct LaunchConfig {
  dim3 grid, block;
  unsigned shared_bytes;
  void *stream;
  const LaunchAttribute *attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, attributes) == 40);

/** Code with an "a" behind its architecture runs on that architecture alone, other code on all after it too. */
bool runs_here(const std::string &text) {
  unsigned wanted = 0;
  char alone = 0;
  const size_t at = text.find(".target sm_");
  if (at != std::string::npos) sscanf(text.c_str() + at, ".target sm_%u%c", &wanted, &alone);
  const unsigned card = unsigned(capability().major * 10 + capability().minor);
  return alone == 'a' ? wanted == card : wanted <= card;
}

/** Where `.entry name(...)` begins in PTX text; npos when it has no such entry. */
size_t entry_of(const std::string &text, const std::string &name) {
  for (const char *end : {"(", " (", "\n("}) {
    const size_t at = text.find(".entry " + name + end);
    if (at != std::string::npos) return at;
  }
  return std::string::npos;
}

std::string body_of(const std::string &text, size_t at) { return text.substr(at, text.find("\n}", at) - at); }

/** Number of parameters of the entry that begins at `at`. */
unsigned parameters_of(const std::string &text, size_t at) {
  unsigned count = 0;
  const size_t close = text.find(")\n", at);
  for (size_t i = text.find(".param", at); i < close; i = text.find(".param", i + 1)) count++;
  return count;
}

/** Bytes of the shared variables that the entry at `at` names, its own and the module's. */
unsigned static_shared_of(const std::string &text, size_t at) {
  const std::string body = body_of(text, at), mark = ".shared .align ";
  unsigned bytes = 0;
  for (size_t i = text.find(mark); i != std::string::npos; i = text.find(mark, i + 1)) {
    unsigned alignment = 1, bits = 0, count = 1;
    char name[512];
    const char *start = text.c_str() + i + mark.size();
    if (sscanf(start, "%u .%*[a-z]%u %511[^[;][%u", &alignment, &bits, name, &count) < 3) continue;
    const bool is_extern = i >= 8 && text.compare(i - 8, 8, ".extern ") == 0;
    if (is_extern || body.find(name) == std::string::npos) continue;
    bytes = (bytes + alignment - 1) / alignment * alignment + bits / 8 * count;
  }
  return bytes;
}

} // namespace

Capability cuda_sim::capability() {
  const char *wanted = getenv("TINYLLAMA_CUDA_SIM_CAPABILITY");
  Capability found = {8, 6};
  if (wanted != nullptr) sscanf(wanted, "%d.%d", &found.major, &found.minor);
  return found;
}

EXPORT int cuInit(unsigned) { return SUCCESS; }
EXPORT int cuDriverGetVersion(int *version) {
  const char *wanted = getenv("TINYLLAMA_CUDA_SIM_DRIVER");
  *version = wanted == nullptr ? 12040 : atoi(wanted);
  return SUCCESS;
}
EXPORT int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
EXPORT int cuDeviceGet(int *device, int ordinal) {
  const Lock lock;
  return *device = ordinal, ordinal == 0 ? 0 : 101;
}
EXPORT int cuDeviceGetName(char *name, int length, int) {
  const Lock lock;
  snprintf(name, size_t(length), "simulator");
  return SUCCESS;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int) {
  const Lock lock;
  if (attribute != 75 && attribute != 76) return refuse(INVALID_VALUE, "device attribute");
  *value = attribute == 75 ? capability().major : capability().minor;
  return SUCCESS;
}
EXPORT int cuGetErrorString(int status, const char **text) {
  const Lock lock;
  *text = describe(status);
  return SUCCESS;
}

EXPORT int cuModuleLoadDataEx(Module **module, const char *image, unsigned count,
                              const int *options, void **values) {
  const Lock lock;
  if (!has_context()) return refuse(INVALID_CONTEXT, "loading a module on a thread without a context");
  if (const int status = refuse_while_capturing("loading a module")) return status;
  Module *made = new Module{image, shared_max(), {}};
  if (made->text.find(".version") == std::string::npos) {
    for (unsigned i = 0; i < count; i++) {
      if (options[i] == 5) snprintf(static_cast<char *>(values[i]), 64, "no .version directive");
    }
    delete made;
    return INVALID_PTX;
  }
  const char *newest = getenv("TINYLLAMA_CUDA_SIM_PTX");
  const size_t at = made->text.find(".version ") + strlen(".version ");
  if (newest != nullptr && strtod(made->text.c_str() + at, nullptr) > strtod(newest, nullptr)) {
    delete made;
    return UNSUPPORTED_PTX;
  }
  if (!runs_here(made->text)) {
    delete made;
    return NO_BINARY;
  }
  *module = made;
  return failure();
}

EXPORT int cuModuleUnload(Module *module) {
  const Lock lock;
  for (const auto &[name, function] : module->functions) {
    if (is_in_graph(&function)) fail(INVALID_HANDLE, "a graph still launches " + name + ", which is unloaded");
    known.erase(&function);
  }
  delete module;
  return failure();
}

EXPORT int cuModuleGetFunction(Function **function, Module *module, const char *name) {
  const Lock lock;
  const Entry *entry = find_entry(name);
  const size_t at = entry_of(module->text, name);
  if (entry == nullptr || at == std::string::npos) return NOT_FOUND;
  if (parameters_of(module->text, at) != entry->count) {
    return refuse(NOT_FOUND, std::string(name) + " has other parameters in the PTX than in its source");
  }
  const unsigned bytes = static_shared_of(module->text, at);
  const bool has_wait = body_of(module->text, at).find("griddepcontrol.wait;") != std::string::npos;
  const Function made{entry, bytes, module->shared_max, has_wait, SHARED_DEFAULT - bytes};
  *function = &module->functions.try_emplace(name, made).first->second;
  known.insert(*function);
  return SUCCESS;
}

EXPORT int cuFuncGetAttribute(int *value, int attribute, Function *function) {
  const Lock lock;
  if (known.count(function) == 0 || attribute != 1) return refuse(INVALID_VALUE, "function attribute");
  *value = int(function->static_shared);
  return SUCCESS;
}

EXPORT int cuFuncSetAttribute(Function *function, int attribute, int value) {
  const Lock lock;
  if (known.count(function) == 0 || attribute != 8) return refuse(INVALID_VALUE, "function attribute");
  if (value < 0 || unsigned(value) > function->shared_max - function->static_shared) {
    return refuse(INVALID_VALUE, "dynamic shared memory");
  }
  function->allowed_shared = unsigned(value);
  return SUCCESS;
}

static int launch_kernel(Function *function, dim3 grid, dim3 block, unsigned shared_bytes, void *stream, void **parameters,
                         void **extra, bool is_dependent) {
  if (!has_context()) return refuse(INVALID_CONTEXT, "launching on a thread without a context");
  if (known.count(function) == 0) return refuse(INVALID_HANDLE, "launching no function");
  const Entry &entry = *function->entry;
  const std::string name = entry.name;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) {
    return refuse(INVALID_VALUE, name + ": an extent is zero");
  }
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return refuse(INVALID_VALUE, name + ": grid");
  const unsigned most = entry.max_threads == 0 ? MAX_BLOCK_THREADS : entry.max_threads;
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || uint64_t(block.x) * block.y * block.z > most) {
    return refuse(INVALID_VALUE, name + ": more threads than a block of it may have");
  }
  if (shared_bytes > function->allowed_shared) {
    return refuse(INVALID_VALUE, name + ": more dynamic shared memory than was allowed");
  }
  if (extra != nullptr || entry.count > 64) return refuse(INVALID_VALUE, name + ": arguments");
  std::shared_ptr<Launch> launch = std::make_shared<Launch>();
  *launch = {&entry, grid, block, shared_bytes, function->shared_max, seed_of(stream), is_dependent, function->has_wait, {}};
  for (unsigned i = 0; i < entry.count; i++) {
    if (parameters[i] == nullptr) return refuse(INVALID_VALUE, name + ": too few arguments");
    memcpy(&launch->arguments[i], parameters[i], entry.sizes[i]);
  }
  if (parameters[entry.count] != nullptr) return refuse(INVALID_VALUE, name + ": too many arguments");
  note_launch(stream, function);
  if (is_dependent) dependent_launches++;
  return enqueue(stream, [launch] { run(*launch); });
}

EXPORT int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared_bytes, void *stream, void **parameters, void **extra) {
  const Lock lock;
  return launch_kernel(function, {gx, gy, gz}, {bx, by, bz}, shared_bytes, stream, parameters, extra, false);
}

EXPORT int cuLaunchKernelEx(const LaunchConfig *config, Function *function, void **parameters, void **extra) {
  const Lock lock;
  bool is_dependent = false;
  for (unsigned i = 0; i < config->attribute_count; i++) {
    const LaunchAttribute &one = config->attributes[i];
    if (one.id != PROGRAMMATIC_STREAM_SERIALIZATION) return refuse(INVALID_VALUE, "launch attribute");
    is_dependent = one.value != 0;
  }
  if (is_dependent && known.count(function) != 0 && function->shared_max < HOPPER_SHARED_MAX) {
    return refuse(NOT_SUPPORTED, "programmatic launch before compute capability 9.0");
  }
  return launch_kernel(function, config->grid, config->block, config->shared_bytes, config->stream, parameters, extra,
                       is_dependent);
}

/** For tests: launches so far that may begin before the kernel before them has ended; those of a graph when it is captured. */
EXPORT unsigned cuda_sim_dependent_launches() {
  const Lock lock;
  return dependent_launches;
}

template <class T> static int fill(T *place, T value, size_t count, void *stream) {
  if (reinterpret_cast<uintptr_t>(place) % sizeof(T) != 0) return refuse(INVALID_VALUE, "cuMemset");
  return enqueue(stream, [=] {
    if (!check_range("cuMemset", place, sizeof(T) * count, true)) return;
    for (size_t i = 0; i < count; i++) place[i] = value;
    settle();
  });
}

EXPORT int cuMemsetD16Async(uint16_t *place, uint16_t value, size_t count, void *stream) {
  const Lock lock;
  return fill(place, value, count, stream);
}

EXPORT int cuMemsetD32Async(uint32_t *place, uint32_t value, size_t count, void *stream) {
  const Lock lock;
  return fill(place, value, count, stream);
}
