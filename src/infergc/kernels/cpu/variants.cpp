// Which instruction sets were compiled in, and which of them this machine runs.

#include "variants.hpp"

#include "api.hpp"

#define DECLARE(name)                           \
  namespace name {                              \
  AttentionKernels attention_kernels(int dtype); \
  LinearKernels linear_kernels(int dtype);      \
  RowKernels row_kernels(int dtype);            \
  }
#define VARIANT(name, runs) {#name, runs, name::attention_kernels, name::linear_kernels, name::row_kernels},

namespace infergc {

DECLARE(portable)
#ifdef INFERGC_AVX2
DECLARE(avx2)
#endif
#ifdef INFERGC_EMULATED512
DECLARE(emulated512)
#endif
#ifdef INFERGC_AVX512
DECLARE(avx512)
#endif
#ifdef INFERGC_AVX512BF16
DECLARE(avx512bf16)
#endif

namespace {

bool always() { return true; }
#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
[[maybe_unused]] bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

// "emulated512" is the source of avx512bf16 lowered to AVX2: for tests, never chosen.
const Variant kVariants[] = {
#ifdef INFERGC_AVX512BF16
    VARIANT(avx512bf16, has_avx512bf16)
#endif
#ifdef INFERGC_AVX512
    VARIANT(avx512, has_avx512)
#endif
#ifdef INFERGC_AVX2
    VARIANT(avx2, has_avx2)
#endif
    VARIANT(portable, always)
#ifdef INFERGC_EMULATED512
    VARIANT(emulated512, has_avx2)
#endif
};

}  // namespace

const Variant* variant_at(int i) {
  return i < int(sizeof kVariants / sizeof *kVariants) ? &kVariants[i] : nullptr;
}

}  // namespace infergc

using namespace infergc;

// Name of the i-th variant compiled in, fastest first; null past the last.
API const char* infergc_variant(int i) {
  const Variant* variant = variant_at(i);
  return variant == nullptr ? nullptr : variant->name;
}

// Whether this machine runs the i-th variant.
API int infergc_variant_runs(int i) { return variant_at(i)->runs(); }
