// Streams of the simulated runtime: work in order, done when somebody waits for it, or recorded as a graph.

#pragma once

#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "simulator.h"

namespace cuda_sim {

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

/** The stream or event of a handle, or null. */
Stream *as_stream(void *handle);
Event *as_event(void *handle);

/** Does the work of a stream up to `mark`, or all there is. */
void drain(Stream &stream, uint64_t mark);
void drain_all();

/** What only a relaxed capture allows: it may use the default stream or wait for the device. Returns a status. */
int refuse_while_capturing(const std::string &what);
/** Refuses what a capture cannot hold; it ends without a graph. */
int spoil(Stream &stream, int status, const std::string &what);

/** Forgets the work of all streams. */
void clear_streams();
/** Forgets the failure that stays. */
void clear_failure();

} // namespace cuda_sim
