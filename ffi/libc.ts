// The C library as Deno FFI sees it: mapping memory and files, copying between JavaScript and native memory. Linux and
// macOS; `off_t` and `size_t` are 64 bits on every system the native kernels are built for.

/** Symbols of libc. */
export const LIBC_SYMBOLS = {
  mmap: {
    parameters: [
      "u64", // void *addr
      "usize", // size_t length
      "i32", // int prot
      "i32", // int flags
      "i32", // int fd
      "i64", // off_t offset
    ],
    result: "u64",
  },
  munmap: {
    parameters: [
      "u64", // void *addr
      "usize", // size_t length
    ],
    result: "i32",
  },
  madvise: {
    parameters: [
      "u64", // void *addr
      "usize", // size_t length
      "i32", // int advice
    ],
    result: "i32",
  },
  open: {
    parameters: [
      "buffer", // const char *path
      "i32", // int flags
    ],
    result: "i32",
  },
  close: {
    parameters: [
      "i32", // int fd
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** memcpy from JavaScript memory to an address. */
export const COPY_IN_SYMBOLS = {
  memcpy: {
    parameters: [
      "u64", // void *dst
      "buffer", // const void *src
      "usize", // size_t n
    ],
    result: "u64",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** memcpy from an address to JavaScript memory. */
export const COPY_OUT_SYMBOLS = {
  memcpy: {
    parameters: [
      "buffer", // void *dst
      "u64", // const void *src
      "usize", // size_t n
    ],
    result: "u64",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Constants of sys/mman.h and fcntl.h. `MAP_FAILED` is (void *)-1. */
export const LIBC = {
  PROT_READ: 1,
  PROT_READ_WRITE: 3,
  MAP_PRIVATE: 2,
  MAP_ANONYMOUS: { linux: 0x20, darwin: 0x1000 },
  MADV_WILLNEED: 3,
  MADV_HUGEPAGE_LINUX: 14,
  MAP_FAILED: 0xffffffffffffffffn,
  O_RDONLY: 0,
} as const;

/** Names of libc for dlopen, by `Deno.build.os`. */
export const LIBC_NAMES = {
  linux: ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"],
  darwin: ["/usr/lib/libSystem.B.dylib"],
} as const;
