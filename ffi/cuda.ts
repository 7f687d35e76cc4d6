// The CUDA driver (libcuda) as Deno FFI sees it: devices, modules, launches. Handles and device addresses are u64, which
// costs no pointer object. Names with a version suffix are what cuda.h's macros stand for.

/** Symbols of libcuda, by their names in cuda.h. */
export const CUDA_SYMBOLS = {
  cuInit: {
    parameters: [
      "u32", // unsigned int Flags
    ],
    result: "i32",
  },
  cuDriverGetVersion: {
    parameters: [
      "buffer", // int *driverVersion
    ],
    result: "i32",
  },
  cuDeviceGetCount: {
    parameters: [
      "buffer", // int *count
    ],
    result: "i32",
  },
  cuDeviceGet: {
    parameters: [
      "buffer", // CUdevice *device
      "i32", // int ordinal
    ],
    result: "i32",
  },
  cuDeviceGetName: {
    parameters: [
      "buffer", // char *name
      "i32", // int len
      "i32", // CUdevice dev
    ],
    result: "i32",
  },
  cuDeviceGetAttribute: {
    parameters: [
      "buffer", // int *pi
      "i32", // CUdevice_attribute attrib
      "i32", // CUdevice dev
    ],
    result: "i32",
  },
  cuGetErrorString: {
    parameters: [
      "i32", // CUresult error
      "buffer", // const char **pStr
    ],
    result: "i32",
  },
  cuModuleLoadDataEx: {
    parameters: [
      "buffer", // CUmodule *module
      "buffer", // const void *image
      "u32", // unsigned int numOptions
      "buffer", // CUjit_option *options
      "buffer", // void **optionValues
    ],
    result: "i32",
  },
  cuModuleUnload: {
    parameters: [
      "u64", // CUmodule hmod
    ],
    result: "i32",
  },
  cuModuleGetFunction: {
    parameters: [
      "buffer", // CUfunction *hfunc
      "u64", // CUmodule hmod
      "buffer", // const char *name
    ],
    result: "i32",
  },
  cuFuncGetAttribute: {
    parameters: [
      "buffer", // int *pi
      "i32", // CUfunction_attribute attrib
      "u64", // CUfunction hfunc
    ],
    result: "i32",
  },
  cuFuncSetAttribute: {
    parameters: [
      "u64", // CUfunction hfunc
      "i32", // CUfunction_attribute attrib
      "i32", // int value
    ],
    result: "i32",
  },
  cuLaunchKernel: {
    parameters: [
      "u64", // CUfunction f
      "u32", // unsigned int gridDimX
      "u32", // unsigned int gridDimY
      "u32", // unsigned int gridDimZ
      "u32", // unsigned int blockDimX
      "u32", // unsigned int blockDimY
      "u32", // unsigned int blockDimZ
      "u32", // unsigned int sharedMemBytes
      "u64", // CUstream hStream
      "buffer", // void **kernelParams
      "u64", // void **extra
    ],
    result: "i32",
  },
  cuLaunchKernelEx: {
    optional: true,
    parameters: [
      "buffer", // const CUlaunchConfig *config
      "u64", // CUfunction f
      "buffer", // void **kernelParams
      "u64", // void **extra
    ],
    result: "i32",
  },
  cuMemsetD16Async: {
    parameters: [
      "u64", // CUdeviceptr dstDevice
      "u16", // unsigned short us
      "usize", // size_t N
      "u64", // CUstream hStream
    ],
    result: "i32",
  },
  cuMemsetD32Async: {
    parameters: [
      "u64", // CUdeviceptr dstDevice
      "u32", // unsigned int ui
      "usize", // size_t N
      "u64", // CUstream hStream
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Constants of cuda.h. */
export const CUDA = {
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: 76,
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: 1,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: 8,
  CU_JIT_ERROR_LOG_BUFFER: 5,
  CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES: 6,
  CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: 6,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION: 222,
} as const;

/** Layout of CUlaunchConfig in bytes; it begins with the grid, the block and the shared memory, seven unsigned int. */
export const LAUNCH_CONFIG = {
  byteLength: 56,
  /** CUstream hStream */
  streamOffset: 32,
  /** CUlaunchAttribute *attrs */
  attributesOffset: 40,
  /** unsigned int numAttrs */
  countOffset: 48,
} as const;

/** Layout of CUlaunchAttribute in bytes; it begins with its id, an int. */
export const LAUNCH_ATTRIBUTE = { byteLength: 72, valueOffset: 8 } as const;

/** Names of libcuda for dlopen. */
export const CUDA_NAMES = ["libcuda.so.1", "libcuda.so"] as const;
