// The CUDA runtime's C symbols for the device and its memory on the host. The runtime's manual does not promise that
// pageable memory has been read when a copy returns, so copies wait in their stream as all work does.

#include <cstdlib>
#include <cstring>
#include <map>

#include "streams.h"

namespace cuda_sim {
namespace {

/** The primary context is current on threads that chose the device. */
thread_local bool is_context_current = false;

} // namespace

bool has_context() { return is_context_current; }

} // namespace cuda_sim

using namespace cuda_sim;

namespace {

std::map<uintptr_t, size_t> pinned;

bool is_pinned(const void *place, size_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  auto after = pinned.upper_bound(address);
  if (after == pinned.begin()) return false;
  --after;
  return address + bytes <= after->first + after->second;
}

void copy(void *to, const void *from, size_t bytes) {
  if (is_device(to) && !check_range("copy", to, bytes, true)) return;
  if (is_device(from) && !check_range("copy", from, bytes, false)) return;
  memmove(to, from, bytes);
  // Copies to the host may run beside the kernels.
  if (is_device(to)) settle();
}

} // namespace

EXPORT int cudaRuntimeGetVersion(int *version) { return *version = 12040, SUCCESS; }
EXPORT int cudaGetDeviceCount(int *count) { return *count = 1, SUCCESS; }
EXPORT int cudaSetDevice(int device) {
  if (device != 0) return 101;
  is_context_current = true;
  return SUCCESS;
}
EXPORT const char *cudaGetErrorString(int status) { return describe(status); }
EXPORT int cudaGetLastError() { return failure(); }

EXPORT int cudaDeviceGetAttribute(int *value, int attribute, int) {
  const Lock lock;
  switch (attribute) {
  case 13: *value = CLOCK_KHZ; return SUCCESS;
  case 16: *value = MULTIPROCESSORS; return SUCCESS;
  case 75: *value = capability().major; return SUCCESS;
  case 76: *value = capability().minor; return SUCCESS;
  case 97: *value = int(shared_max()); return SUCCESS;
  default: return refuse(INVALID_VALUE, "device attribute " + std::to_string(attribute));
  }
}

EXPORT int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  const Lock lock;
  memory_info(free_bytes, total);
  return failure();
}

EXPORT int cudaMalloc(uintptr_t *place, size_t bytes) {
  const Lock lock;
  if (failure() != SUCCESS) return failure();
  if (const int status = refuse_while_capturing("cudaMalloc")) return status;
  *place = allocate(bytes);
  return *place == 0 && bytes > 0 ? int(OUT_OF_MEMORY) : int(SUCCESS);
}

EXPORT int cudaFree(uintptr_t place) {
  const Lock lock;
  if (const int status = refuse_while_capturing("cudaFree")) return status;
  drain_all();
  if (place != 0 && !release(place)) return refuse(INVALID_VALUE, "freeing what is not allocated");
  return failure();
}

EXPORT int cudaMallocHost(void **place, size_t bytes) {
  const Lock lock;
  if (const int status = refuse_while_capturing("cudaMallocHost")) return status;
  *place = malloc(bytes);
  pinned[reinterpret_cast<uintptr_t>(*place)] = bytes;
  return failure();
}

EXPORT int cudaFreeHost(void *place) {
  const Lock lock;
  drain_all();
  if (pinned.erase(reinterpret_cast<uintptr_t>(place)) == 0) {
    return refuse(INVALID_VALUE, "freeing what is not page-locked");
  }
  free(place);
  return failure();
}

EXPORT int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *handle) {
  const Lock lock;
  const bool is_from_host = kind == 1, is_to_host = kind == 2;
  if (kind < 1 || kind > 3) return refuse(INVALID_VALUE, "kind of copy");
  if (is_device(to) == is_to_host || is_device(from) == is_from_host) {
    return refuse(INVALID_VALUE, "the copy's kind does not fit its addresses");
  }
  Stream *stream = as_stream(handle);
  const bool is_pageable = (is_from_host && !is_pinned(from, bytes)) || (is_to_host && !is_pinned(to, bytes));
  if (is_pageable && stream != nullptr && stream->captured != nullptr) {
    return spoil(*stream, CAPTURE_UNSUPPORTED, "copying pageable memory");
  }
  return enqueue(handle, [=] { copy(to, from, bytes); });
}

EXPORT int cudaMemsetAsync(void *place, int value, size_t bytes, void *stream) {
  const Lock lock;
  return enqueue(stream, [=] {
    if (check_range("cudaMemsetAsync", place, bytes, true)) memset(place, value, bytes);
    settle();
  });
}

/** For tests: forgets the failure that a card would keep until the process ends, and all work. */
EXPORT void cuda_sim_reset() {
  const Lock lock;
  clear_failure();
  clear_streams();
}
