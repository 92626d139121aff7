// The instruction sets that were compiled in.
#pragma once

#include "dense.hpp"
#include "kernels.hpp"


namespace infergc {

struct Variant {
  const char* name;
  bool (*runs)();  // asks CPU and operating system
  AttentionKernelsOf attention;
  LinearKernelsOf linear;
  RowKernelsOf rows;
};

// The i-th, fastest first; null past the last.
const Variant* variant_at(int i);

}  // namespace infergc
