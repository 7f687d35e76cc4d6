// Failures of the simulated card and what they are called.

#include "streams.h"

namespace cuda_sim {
namespace {

int kept_failure = SUCCESS;
std::string failure_message, refusal_message;
int refusal = SUCCESS;

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

void clear_failure() { kept_failure = SUCCESS; }

} // namespace cuda_sim
