// The CUDA runtime (libcudart) as Deno FFI sees it: memory, streams, events, graphs. The symbols are those that CUDA 11.4,
// 12 and 13 have with the same parameters.

/** Symbols of libcudart, by their names in cuda_runtime_api.h. */
export const CUDART_SYMBOLS = {
  cudaRuntimeGetVersion: {
    parameters: [
      "buffer", // int *runtimeVersion
    ],
    result: "i32",
  },
  cudaSetDevice: {
    parameters: [
      "i32", // int device
    ],
    result: "i32",
  },
  cudaDeviceGetAttribute: {
    parameters: [
      "buffer", // int *value
      "i32", // enum cudaDeviceAttr attr
      "i32", // int device
    ],
    result: "i32",
  },
  cudaMemGetInfo: {
    parameters: [
      "buffer", // size_t *free
      "buffer", // size_t *total
    ],
    result: "i32",
  },
  cudaGetErrorString: {
    parameters: [
      "i32", // cudaError_t error
    ],
    result: "pointer", // const char *
  },
  cudaGetLastError: {
    parameters: [],
    result: "i32",
  },
  cudaMalloc: {
    parameters: [
      "buffer", // void **devPtr
      "usize", // size_t size
    ],
    result: "i32",
  },
  cudaFree: {
    parameters: [
      "u64", // void *devPtr
    ],
    result: "i32",
  },
  cudaMallocHost: {
    parameters: [
      "buffer", // void **ptr
      "usize", // size_t size
    ],
    result: "i32",
  },
  cudaFreeHost: {
    parameters: [
      "u64", // void *ptr
    ],
    result: "i32",
  },
  cudaMemcpyAsync: {
    parameters: [
      "u64", // void *dst
      "u64", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaMemcpyAsyncToBuffer: {
    name: "cudaMemcpyAsync",
    parameters: [
      "buffer", // void *dst
      "u64", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaMemsetAsync: {
    parameters: [
      "u64", // void *devPtr
      "i32", // int value
      "usize", // size_t count
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamCreateWithFlags: {
    parameters: [
      "buffer", // cudaStream_t *pStream
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaStreamDestroy: {
    parameters: [
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamSynchronize: {
    parameters: [
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamWaitEvent: {
    parameters: [
      "u64", // cudaStream_t stream
      "u64", // cudaEvent_t event
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaEventCreateWithFlags: {
    parameters: [
      "buffer", // cudaEvent_t *event
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaEventDestroy: {
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
  },
  cudaEventRecord: {
    parameters: [
      "u64", // cudaEvent_t event
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaEventQuery: {
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
  },
  cudaEventSynchronize: {
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
  },
  // Waits on a thread of its own, so that the host goes on.
  cudaEventSynchronizeApart: {
    name: "cudaEventSynchronize",
    parameters: [
      "u64", // cudaEvent_t event
    ],
    result: "i32",
    nonblocking: true,
  },
  cudaStreamBeginCapture: {
    parameters: [
      "u64", // cudaStream_t stream
      "i32", // enum cudaStreamCaptureMode mode
    ],
    result: "i32",
  },
  cudaStreamEndCapture: {
    parameters: [
      "u64", // cudaStream_t stream
      "buffer", // cudaGraph_t *pGraph
    ],
    result: "i32",
  },
  cudaGraphInstantiateWithFlags: {
    parameters: [
      "buffer", // cudaGraphExec_t *pGraphExec
      "u64", // cudaGraph_t graph
      "u64", // unsigned long long flags
    ],
    result: "i32",
  },
  cudaGraphLaunch: {
    parameters: [
      "u64", // cudaGraphExec_t graphExec
      "u64", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaGraphDestroy: {
    parameters: [
      "u64", // cudaGraph_t graph
    ],
    result: "i32",
  },
  cudaGraphExecDestroy: {
    parameters: [
      "u64", // cudaGraphExec_t graphExec
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Constants of driver_types.h and cuda_runtime_api.h. */
export const CUDART = {
  cudaErrorMemoryAllocation: 2,
  cudaErrorNotReady: 600,
  cudaErrorIllegalAddress: 700,
  cudaErrorLaunchTimeout: 702,
  cudaErrorHardwareStackError: 714,
  cudaErrorIllegalInstruction: 715,
  cudaErrorMisalignedAddress: 716,
  cudaErrorInvalidAddressSpace: 717,
  cudaErrorInvalidPc: 718,
  cudaErrorLaunchFailure: 719,
  cudaMemcpyHostToDevice: 1,
  cudaMemcpyDeviceToHost: 2,
  cudaMemcpyDeviceToDevice: 3,
  cudaStreamNonBlocking: 1,
  cudaEventBlockingSync: 1,
  cudaEventDisableTiming: 2,
  cudaStreamCaptureModeRelaxed: 2,
  cudaDevAttrClockRate: 13,
  cudaDevAttrMultiProcessorCount: 16,
  cudaDevAttrComputeCapabilityMajor: 75,
  cudaDevAttrComputeCapabilityMinor: 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin: 97,
} as const;

/** Names of libcudart for dlopen, newest first; a name without a version may be newer than the driver. */
export const CUDART_NAMES = ["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"] as const;
