// What the processor at hand can do. Compiled into every library, and safe to call in the plainest one, which is how
// lib/backend/cpu chooses among them.

#include "kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
static int sysctl_flag(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}
#endif

enum { AVX2 = 1, AVX512 = 2, VNNI = 4, AVX512_BF16 = 8, NEON_DOT = 16, NEON_BF16 = 32 };

int tl_cpu_features(void) {
  int features = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) features |= AVX2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    features |= AVX512;
  if (__builtin_cpu_supports("avx512vnni")) features |= VNNI;
  if (__builtin_cpu_supports("avx512bf16")) features |= AVX512_BF16;
#elif defined(__aarch64__) && defined(__linux__)
  if (getauxval(AT_HWCAP) & (1ul << 20)) features |= NEON_DOT;   // HWCAP_ASIMDDP
  if (getauxval(AT_HWCAP2) & (1ul << 14)) features |= NEON_BF16; // HWCAP2_BF16
#elif defined(__aarch64__) && defined(__APPLE__)
  if (sysctl_flag("hw.optional.arm.FEAT_DotProd")) features |= NEON_DOT;
  if (sysctl_flag("hw.optional.arm.FEAT_BF16")) features |= NEON_BF16;
#endif
  return features;
}
