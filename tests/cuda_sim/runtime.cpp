// The CUDA runtime's C symbols on the host: memory, streams that run their work only when somebody waits for it, events,
// captured graphs. Running late is what a real card may do: it shows host memory that is reused too soon, and the runtime's
// manual does not promise that pageable memory has been read when a copy returns.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "simulator.h"

namespace cuda_sim {
namespace {

struct Graph {
  std::vector<Work> works;
  /** Functions of modules that it launches. */
  std::set<const void *> functions;
};

struct Stream {
  std::deque<Work> queue;
  uint64_t enqueued = 0, done = 0;
  Graph *captured = nullptr;
  int capture_mode = 0;
  /** Something was asked of the capture that it cannot hold: it ends without a graph. */
  bool is_spoilt = false;
  uint64_t seed = 0;
};

struct Event {
  unsigned flags = 0;
  Stream *stream = nullptr;
  uint64_t mark = 0;
  /** When the work before it was done, by the host's clock; shared with the work that notes it. */
  std::shared_ptr<double> reached_ms = std::make_shared<double>(0);
};

constexpr unsigned DISABLE_TIMING = 2;
constexpr int CAPTURE_RELAXED = 2, CAPTURE_INVALIDATED = 901, CAPTURE_ISOLATION = 905;

int kept_failure = SUCCESS;
std::string failure_message, refusal_message;
int refusal = SUCCESS;
std::set<Stream *> streams;
std::set<Event *> events;
std::set<Graph *> graphs, executables;
/** The primary context is current on threads that chose the device. */
thread_local bool is_context_current = false;
std::map<uintptr_t, size_t> pinned;

void drain(Stream &stream, uint64_t mark) {
  while (stream.done < mark && !stream.queue.empty()) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (failure() == SUCCESS) work();
    stream.done++;
  }
}

void drain_all() {
  for (Stream *stream : streams) drain(*stream, stream->enqueued);
}

bool is_pinned(const void *place, size_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  auto after = pinned.upper_bound(address);
  if (after == pinned.begin()) return false;
  --after;
  return address + bytes <= after->first + after->second;
}

Event *as_event(void *handle) {
  Event *event = static_cast<Event *>(handle);
  return events.count(event) != 0 ? event : nullptr;
}

Stream *as_stream(void *handle) {
  Stream *stream = static_cast<Stream *>(handle);
  return streams.count(stream) != 0 ? stream : nullptr;
}

const char *name_of(int status) {
  switch (status) {
  case SUCCESS: return "no error";
  case INVALID_VALUE: return "invalid argument";
  case OUT_OF_MEMORY: return "out of memory";
  case INVALID_PTX: return "a PTX JIT compilation failed";
  case INVALID_HANDLE: return "invalid resource handle";
  case NOT_FOUND: return "named symbol not found";
  case NOT_READY: return "device not ready";
  case ILLEGAL_ADDRESS: return "an illegal memory access was encountered";
  case TOO_MANY_RESOURCES: return "too many resources requested for launch";
  case MISALIGNED_ADDRESS: return "misaligned address";
  case LAUNCH_FAILURE: return "unspecified launch failure";
  case NOT_SUPPORTED: return "operation not supported";
  case CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
  case CAPTURE_INVALIDATED: return "operation failed due to a previous error during capture";
  case CAPTURE_ISOLATION: return "dependency created on uncaptured work in another stream";
  default: return "unrecognized error code";
  }
}

} // namespace

int fail(int status, const std::string &message) {
  if (kept_failure == SUCCESS) {
    kept_failure = status;
    failure_message = std::string(name_of(status)) + " (" + message + ")";
  }
  return status;
}

int failure() { return kept_failure; }

int refuse(int status, const std::string &message) {
  refusal = status;
  refusal_message = std::string(name_of(status)) + " (simulator: " + message + ")";
  return status;
}

const char *describe(int status) {
  if (status != SUCCESS && status == kept_failure) return failure_message.c_str();
  if (status != SUCCESS && status == refusal) return refusal_message.c_str();
  return name_of(status);
}

uint64_t seed_of(void *handle) {
  const Stream *stream = as_stream(handle);
  return stream == nullptr ? 0 : stream->seed;
}

int enqueue(void *handle, Work work) {
  Stream *stream = as_stream(handle);
  if (stream == nullptr) return refuse(INVALID_HANDLE, "not a stream, or the default stream");
  if (failure() != SUCCESS) return failure();
  if (stream->is_spoilt) return CAPTURE_INVALIDATED;
  if (stream->captured != nullptr) {
    stream->captured->works.push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
    stream->enqueued++;
  }
  return SUCCESS;
}

bool has_context() { return is_context_current; }

void note_launch(void *handle, const void *function) {
  const Stream *stream = as_stream(handle);
  if (stream != nullptr && stream->captured != nullptr) stream->captured->functions.insert(function);
}

bool is_in_graph(const void *function) {
  for (const Graph *graph : executables) {
    if (graph->functions.count(function) != 0) return true;
  }
  return false;
}

/** What only a relaxed capture allows: it may use the default stream or wait for the device. */
int refuse_while_capturing(const std::string &what) {
  for (Stream *stream : streams) {
    if (stream->captured == nullptr || stream->capture_mode == CAPTURE_RELAXED) continue;
    stream->is_spoilt = true;
    return refuse(CAPTURE_UNSUPPORTED, what);
  }
  return SUCCESS;
}

} // namespace cuda_sim

using namespace cuda_sim;

namespace {

int spoil(Stream &stream, int status, const std::string &what) {
  stream.is_spoilt = true;
  return refuse(status, what);
}

int wait_for(Stream &stream, uint64_t mark) {
  if (stream.captured != nullptr) return spoil(stream, CAPTURE_UNSUPPORTED, "waiting for a stream");
  drain(stream, mark);
  return failure();
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

EXPORT int cudaStreamCreateWithFlags(void **stream, unsigned) {
  const Lock lock;
  Stream *made = new Stream;
  const char *seed = getenv("TINYLLAMA_CUDA_SIM_SHUFFLE");
  if (seed != nullptr) made->seed = strtoull(seed, nullptr, 10);
  streams.insert(made);
  *stream = made;
  return failure();
}

EXPORT int cudaStreamDestroy(void *handle) {
  const Lock lock;
  Stream *stream = as_stream(handle);
  if (stream == nullptr) return refuse(INVALID_HANDLE, "destroying no stream");
  drain(*stream, stream->enqueued);
  // Events may still name it; an empty stream has everything done.
  streams.erase(stream);
  return failure();
}

EXPORT int cudaStreamSynchronize(void *handle) {
  const Lock lock;
  Stream *stream = as_stream(handle);
  if (stream == nullptr) return refuse(INVALID_HANDLE, "waiting for no stream");
  return wait_for(*stream, stream->enqueued);
}

EXPORT int cudaEventCreateWithFlags(void **event, unsigned flags) {
  const Lock lock;
  Event *made = new Event{flags};
  events.insert(made);
  *event = made;
  return failure();
}

EXPORT int cudaEventDestroy(void *event) {
  const Lock lock;
  if (events.erase(static_cast<Event *>(event)) == 0) return refuse(INVALID_HANDLE, "no event");
  delete static_cast<Event *>(event);
  return failure();
}

EXPORT int cudaEventRecord(void *event, void *handle) {
  const Lock lock;
  Stream *stream = as_stream(handle);
  if (stream == nullptr || events.count(static_cast<Event *>(event)) == 0) {
    return refuse(INVALID_HANDLE, "recording an event");
  }
  if (stream->captured != nullptr) return spoil(*stream, CAPTURE_UNSUPPORTED, "recording an event");
  Event &one = *static_cast<Event *>(event);
  const std::shared_ptr<double> reached_ms = one.reached_ms;
  enqueue(handle, [=] {
    using namespace std::chrono;
    *reached_ms = duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
  });
  one.stream = stream;
  one.mark = stream->enqueued;
  return failure();
}

EXPORT int cudaEventElapsedTime(float *milliseconds, void *start, void *end) {
  const Lock lock;
  const Event *first = as_event(start), *last = as_event(end);
  for (const Event *one : {first, last}) {
    if (one == nullptr || one->stream == nullptr || one->flags & DISABLE_TIMING) {
      return refuse(INVALID_HANDLE, "the time of no event, or of one that takes no time");
    }
    if (one->stream->done < one->mark) return NOT_READY;
  }
  *milliseconds = float(*last->reached_ms - *first->reached_ms);
  return failure();
}

EXPORT int cudaEventQuery(void *event) {
  const Lock lock;
  const Event *one = as_event(event);
  if (one == nullptr) return refuse(INVALID_HANDLE, "asking for no event");
  if (one->stream == nullptr || one->stream->done >= one->mark) return failure();
  return failure() != SUCCESS ? failure() : int(NOT_READY);
}

EXPORT int cudaEventSynchronize(void *event) {
  const Lock lock;
  const Event *one = as_event(event);
  if (one == nullptr) return refuse(INVALID_HANDLE, "waiting for no event");
  return one->stream == nullptr ? failure() : wait_for(*one->stream, one->mark);
}

EXPORT int cudaStreamWaitEvent(void *handle, void *event, unsigned) {
  const Lock lock;
  Stream *stream = as_stream(handle);
  if (stream == nullptr || as_event(event) == nullptr) return refuse(INVALID_HANDLE, "waiting on the device");
  const Event one = *as_event(event);
  if (one.stream == nullptr) return failure();
  if (stream->captured != nullptr) return spoil(*stream, CAPTURE_ISOLATION, "waiting on the device");
  return enqueue(handle, [=] { drain(*one.stream, one.mark); });
}

EXPORT int cudaStreamBeginCapture(void *handle, int mode) {
  const Lock lock;
  Stream *stream = as_stream(handle);
  if (stream == nullptr || stream->captured != nullptr || mode < 0 || mode > 2) {
    return refuse(INVALID_VALUE, "beginning to capture");
  }
  stream->captured = new Graph;
  stream->capture_mode = mode;
  return failure();
}

EXPORT int cudaStreamEndCapture(void *handle, void **graph) {
  const Lock lock;
  Stream *stream = as_stream(handle);
  if (stream == nullptr || stream->captured == nullptr) {
    return refuse(INVALID_VALUE, "ending a capture that was not begun");
  }
  Graph *captured = std::exchange(stream->captured, nullptr);
  *graph = nullptr;
  if (std::exchange(stream->is_spoilt, false)) {
    delete captured;
    return refuse(CAPTURE_INVALIDATED, "ending a capture");
  }
  graphs.insert(captured);
  *graph = captured;
  return failure();
}

EXPORT int cudaGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
  const Lock lock;
  Graph *captured = static_cast<Graph *>(graph);
  if (graphs.count(captured) == 0) return refuse(INVALID_VALUE, "no graph");
  Graph *made = new Graph(*captured);
  executables.insert(made);
  *executable = made;
  return failure();
}

EXPORT int cudaGraphLaunch(void *executable, void *handle) {
  const Lock lock;
  if (executables.count(static_cast<Graph *>(executable)) == 0) return refuse(INVALID_VALUE, "launching no graph");
  for (const Work &work : static_cast<Graph *>(executable)->works) {
    const int status = enqueue(handle, work);
    if (status != SUCCESS) return status;
  }
  return failure();
}

EXPORT int cudaGraphDestroy(void *graph) {
  const Lock lock;
  if (graphs.erase(static_cast<Graph *>(graph)) == 0) return refuse(INVALID_VALUE, "destroying no graph");
  delete static_cast<Graph *>(graph);
  return failure();
}

EXPORT int cudaGraphExecDestroy(void *executable) {
  const Lock lock;
  drain_all();
  if (executables.erase(static_cast<Graph *>(executable)) == 0) return refuse(INVALID_VALUE, "destroying no graph");
  delete static_cast<Graph *>(executable);
  return failure();
}

/** For tests: forgets the failure that a card would keep until the process ends, and all work. */
EXPORT void cuda_sim_reset() {
  const Lock lock;
  kept_failure = SUCCESS;
  for (Stream *stream : streams) {
    stream->queue.clear();
    stream->done = stream->enqueued;
  }
}
