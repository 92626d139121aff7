// Memory that only grows.
#pragma once

#include <cstdlib>
#include <cstring>

namespace infergc {

struct Buffer {
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data); }

  // At least `bytes`, zeroed, aligned to 64; the content is lost when it grows. False: there is no such memory.
  bool reserve(size_t bytes) {
    if (bytes <= size) return true;
    std::free(data);
    size = (bytes + 4095) / 4096 * 4096;
    data = std::aligned_alloc(64, size);
    if (data == nullptr) size = 0;
    else std::memset(data, 0, size);
    return data != nullptr;
  }

  void* data = nullptr;
  size_t size = 0;
};

}  // namespace infergc
