// What the parts of the library call of each other: the plain C interface, without what only Python calls.
#pragma once

#include <cstdint>

#define API extern "C" __attribute__((visibility("default")))

namespace infergc {

struct Dense;
struct Engine;
struct Plan;

enum Error : int { kOk = 0, kPageOutOfRange = 1, kReleasedPage = 2, kNoMemory = 3, kIdOutOfRange = 4 };

}  // namespace infergc

API int infergc_write(infergc::Engine*, const infergc::Plan*, const char* k, const char* v, int64_t k_stride,
                      int64_t v_stride, char* k_pages, char* v_pages, int64_t page_count);
API int infergc_attend(infergc::Engine*, infergc::Plan*, const void* q, int64_t q_stride, const void* k_pages,
                       const void* v_pages, int64_t page_count, void* out, float scale, int window);
API int infergc_linear(infergc::Dense*, const char* x, int64_t stride, int rows, int outputs, int inputs,
                       const uint32_t* panels, const void* bias, void* y);
API void infergc_add_norm(const infergc::Dense*, void* hidden, const void* delta, const void* weight, float eps,
                          int rows, int width, void* out);
API void infergc_silu_mul(const infergc::Dense*, const void* x, int rows, int width, void* out);
API void infergc_rotate(const infergc::Dense*, char* x, int64_t stride, int rows, int q_heads, int kv_heads,
                        int dims, const void* cos, const void* sin, const void* q_norm, const void* k_norm, float eps);
