// The two library functions compilers call on their own, for the WASM build, which has no C library.

#if defined(__wasm__)
#include <stddef.h>

// __builtin_memcpy and its kin become the bulk memory instructions, so these do not call themselves.
void *memcpy(void *dst, const void *src, size_t count) { return __builtin_memcpy(dst, src, count); }
void *memmove(void *dst, const void *src, size_t count) { return __builtin_memmove(dst, src, count); }
void *memset(void *dst, int value, size_t count) { return __builtin_memset(dst, value, count); }
#endif
