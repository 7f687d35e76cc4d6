// The CUDA runtime's C symbols for order on the host: streams that run their work only when somebody waits for it, events,
// captured graphs. Running late is what a real card may do: it shows host memory that is reused too soon.

#include <chrono>
#include <cstdlib>
#include <utility>

#include "streams.h"

namespace cuda_sim {
namespace {

std::set<Stream *> streams;
std::set<Event *> events;
std::set<Graph *> graphs, executables;

} // namespace

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

Event *as_event(void *handle) {
  Event *event = static_cast<Event *>(handle);
  return events.count(event) != 0 ? event : nullptr;
}

Stream *as_stream(void *handle) {
  Stream *stream = static_cast<Stream *>(handle);
  return streams.count(stream) != 0 ? stream : nullptr;
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

int refuse_while_capturing(const std::string &what) {
  for (Stream *stream : streams) {
    if (stream->captured == nullptr || stream->capture_mode == CAPTURE_RELAXED) continue;
    stream->is_spoilt = true;
    return refuse(CAPTURE_UNSUPPORTED, what);
  }
  return SUCCESS;
}

int spoil(Stream &stream, int status, const std::string &what) {
  stream.is_spoilt = true;
  return refuse(status, what);
}

void clear_streams() {
  for (Stream *stream : streams) {
    stream->queue.clear();
    stream->done = stream->enqueued;
  }
}

} // namespace cuda_sim

using namespace cuda_sim;

namespace {

int wait_for(Stream &stream, uint64_t mark) {
  if (stream.captured != nullptr) return spoil(stream, CAPTURE_UNSUPPORTED, "waiting for a stream");
  drain(stream, mark);
  return failure();
}

} // namespace

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
