// The CUDA driver's C symbols on the host: modules whose entry points are the functions linked in, launches with a card's
// limits.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "simulator.h"

using namespace cuda_sim;

namespace {

/** A function of a module: how PTX and source describe it. */
struct Function {
  const Entry *entry;
  unsigned allowed_shared = SHARED_DEFAULT;
};

struct Module {
  std::string text;
  std::map<std::string, Function> functions;
};

std::set<const Function *> known;

/** Number of parameters of `.entry name(...)` in PTX text; -1 when it has no such entry. */
int parameters_of(const std::string &text, const std::string &name) {
  for (const char *end : {"(", " (", "\n("}) {
    const size_t at = text.find(".entry " + name + end);
    if (at == std::string::npos) continue;
    int count = 0;
    const size_t close = text.find(")\n", at);
    for (size_t i = text.find(".param", at); i < close; i = text.find(".param", i + 1)) count++;
    return count;
  }
  return -1;
}

} // namespace

EXPORT int cuInit(unsigned) { return SUCCESS; }
EXPORT int cuDriverGetVersion(int *version) { return *version = 12040, SUCCESS; }
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
EXPORT int cuGetErrorString(int status, const char **text) {
  const Lock lock;
  *text = describe(status);
  return SUCCESS;
}

EXPORT int cuModuleLoadDataEx(Module **module, const char *image, unsigned count,
                              const int *options, void **values) {
  const Lock lock;
  Module *made = new Module{image, {}};
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
  *module = made;
  return failure();
}

EXPORT int cuModuleUnload(Module *module) {
  const Lock lock;
  for (const auto &[name, function] : module->functions) known.erase(&function);
  delete module;
  return failure();
}

EXPORT int cuModuleGetFunction(Function **function, Module *module, const char *name) {
  const Lock lock;
  const Entry *entry = find_entry(name);
  const int parameters = parameters_of(module->text, name);
  if (entry == nullptr || parameters < 0) return NOT_FOUND;
  if (unsigned(parameters) != entry->count) {
    return refuse(NOT_FOUND, std::string(name) + " has other parameters in the PTX than in its source");
  }
  *function = &module->functions.try_emplace(name, Function{entry}).first->second;
  known.insert(*function);
  return SUCCESS;
}

EXPORT int cuFuncSetAttribute(Function *function, int attribute, int value) {
  const Lock lock;
  if (known.count(function) == 0 || attribute != 8) return refuse(INVALID_VALUE, "function attribute");
  if (value < 0 || unsigned(value) > SHARED_MAX) return refuse(INVALID_VALUE, "dynamic shared memory");
  function->allowed_shared = unsigned(value);
  return SUCCESS;
}

EXPORT int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                          unsigned by, unsigned bz, unsigned shared_bytes, void *stream,
                          void **parameters, void **extra) {
  const Lock lock;
  if (known.count(function) == 0) return refuse(INVALID_HANDLE, "launching no function");
  const Entry &entry = *function->entry;
  const std::string name = entry.name;
  if (gx == 0 || gy == 0 || gz == 0 || bx == 0 || by == 0 || bz == 0) {
    return refuse(INVALID_VALUE, name + ": an extent is zero");
  }
  if (gx > 0x7fffffff || gy > 65535 || gz > 65535) return refuse(INVALID_VALUE, name + ": grid");
  const unsigned most = entry.max_threads == 0 ? MAX_BLOCK_THREADS : entry.max_threads;
  if (bx > 1024 || by > 1024 || bz > 64 || uint64_t(bx) * by * bz > most) {
    return refuse(INVALID_VALUE, name + ": more threads than a block of it may have");
  }
  if (shared_bytes > function->allowed_shared) {
    return refuse(INVALID_VALUE, name + ": more dynamic shared memory than was allowed");
  }
  if (extra != nullptr || entry.count > 64) return refuse(INVALID_VALUE, name + ": arguments");
  std::shared_ptr<Launch> launch = std::make_shared<Launch>();
  *launch = {&entry, {gx, gy, gz}, {bx, by, bz}, shared_bytes, seed_of(stream), {}};
  for (unsigned i = 0; i < entry.count; i++) {
    if (parameters[i] == nullptr) return refuse(INVALID_VALUE, name + ": too few arguments");
    memcpy(&launch->arguments[i], parameters[i], entry.sizes[i]);
  }
  if (parameters[entry.count] != nullptr) return refuse(INVALID_VALUE, name + ": too many arguments");
  return enqueue(stream, [launch] { run(*launch); });
}

template <class T> static int fill(T *place, T value, size_t count, void *stream) {
  if (reinterpret_cast<uintptr_t>(place) % sizeof(T) != 0) return refuse(INVALID_VALUE, "cuMemset");
  return enqueue(stream, [=] {
    if (!check_range("cuMemset", place, sizeof(T) * count, true)) return;
    for (size_t i = 0; i < count; i++) place[i] = value;
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
