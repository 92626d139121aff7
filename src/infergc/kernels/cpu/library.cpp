// The plain C interface: engines (threads and memory of one layer group), plans (one step), and the calls.
// Nothing here throws to the caller; every function that can fail returns a code or null.

#include <cmath>
#include <cstring>
#include <new>

#include "kernels.hpp"
#include "plan.hpp"
#include "pool.hpp"

#define API extern "C" __attribute__((visibility("default")))

namespace infergc {

Kernels portable_kernels(int dtype);
#ifdef INFERGC_AVX2
Kernels avx2_kernels(int dtype);
#endif
#ifdef INFERGC_EMULATED512
Kernels emulated512_kernels(int dtype);
#endif
#ifdef INFERGC_AVX512
Kernels avx512_kernels(int dtype);
#endif
#ifdef INFERGC_AVX512BF16
Kernels avx512bf16_kernels(int dtype);
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

struct Variant {
  const char* name;
  KernelsOf kernels;
  bool (*runs)();  // asks CPU and operating system
};

// Fastest first. "emulated512" is the source of avx512bf16 lowered to AVX2: for tests, never chosen.
const Variant kVariants[] = {
#ifdef INFERGC_AVX512BF16
    {"avx512bf16", avx512bf16_kernels, has_avx512bf16},
#endif
#ifdef INFERGC_AVX512
    {"avx512", avx512_kernels, has_avx512},
#endif
#ifdef INFERGC_AVX2
    {"avx2", avx2_kernels, has_avx2},
#endif
    {"portable", portable_kernels, always},
#ifdef INFERGC_EMULATED512
    {"emulated512", emulated512_kernels, has_avx2},
#endif
};

constexpr int64_t kWorthThreads = 1 << 18;       // multiply-adds below which waking a thread costs more
constexpr int64_t kWorthThreadsBytes = 1 << 18;  // bytes to copy, likewise

enum Error : int { kOk = 0, kPageOutOfRange = 1, kReleasedPage = 2, kNoMemory = 3 };

struct Buffer {
  ~Buffer() { std::free(data); }
  // At least `bytes`, zeroed, aligned to 64; the content is lost when it grows.
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

struct Engine {
  Engine(const Shape& s, Kernels k, int threads) : shape(s), kernels(k), pool(threads), memory(threads) {}

  size_t element() const { return shape.dtype == kFloat32 ? 4 : 2; }
  size_t page_bytes() const { return element() * shape.kv_heads * shape.page_tokens * shape.head_dim; }

  bool make_scratch() {
    for (Buffer& buffer : memory) {
      Scratch s{};
      if (!buffer.reserve(lay_out(s, nullptr))) return false;
      lay_out(s, static_cast<char*>(buffer.data));
      scratch.push_back(s);
    }
    return true;
  }

  // Points s into memory at `base`; returns the bytes needed.
  size_t lay_out(Scratch& s, char* base) const {
    const size_t rows = shape.tile_rows(), dims = shape.head_dim, state = shape.state();
    size_t used = 0;
    auto take = [&](auto*& pointer, size_t count) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + used);
      used += (count * sizeof(*pointer) + 63) / 64 * 64;
    };
    take(s.q, rows * dims);
    take(s.part, rows * state);
    take(s.run, rows * state);
    take(s.sums, rows * 16);
    take(s.scores, rows * kBlock);
    take(s.keys, kBlock * dims);
    take(s.values, kBlock * 32);
    take(s.offset, 2 * kBlock);
    return used;
  }

  Shape shape;
  Kernels kernels;
  Pool pool;
  std::vector<Buffer> memory;
  std::vector<Scratch> scratch;  // one a thread
  Buffer states;
};

void run_tasks(Engine& engine, Plan& plan, const Call& call) {
  Schedule& s = plan.schedule;
  auto job = [&](int worker, int index) {
    const Task& task = s.tasks[index];
    const Scratch& scratch = engine.scratch[worker];
    engine.kernels.attend(call, task, scratch);
    if (task.merge < 0) return;
    if (s.unfinished[task.merge].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    engine.kernels.merge(call, s.merges[task.merge], scratch);  // the last piece gathers
    s.unfinished[task.merge].store(s.merges[task.merge].pieces, std::memory_order_relaxed);
  };
  const int tasks = int(s.tasks.size());
  if (s.cost >= kWorthThreads) return engine.pool.run(tasks, job);
  for (int i = 0; i < tasks; i++) job(0, i);
}

}  // namespace
}  // namespace infergc

using namespace infergc;

// Name of the i-th variant compiled in, fastest first; null past the last.
API const char* infergc_variant(int i) {
  return i < int(sizeof kVariants / sizeof *kVariants) ? kVariants[i].name : nullptr;
}

// Whether this machine runs the i-th variant.
API int infergc_variant_runs(int i) { return kVariants[i].runs(); }

// An engine for one shape; null when memory or threads are short. The caller has checked that the variant runs.
API Engine* infergc_engine(int variant, int heads, int kv_heads, int head_dim, int page_tokens, int dtype,
                           int threads) {
  try {
    const Shape shape{heads, kv_heads, head_dim, page_tokens, dtype};
    auto engine = std::make_unique<Engine>(shape, kVariants[variant].kernels(dtype), threads);
    return engine->make_scratch() ? engine.release() : nullptr;
  } catch (const std::exception&) {
    return nullptr;
  }
}

API void infergc_engine_free(Engine* engine) { delete engine; }

// Plans a step; arrays are copied. On success *bad_row is -1. Null with *bad_row ≥ 0: that row's table does
// not hold the positions it computes. Null with *bad_row = -1: no memory.
API Plan* infergc_plan(const Engine* engine, int rows, int extents, const int32_t* starts, const int32_t* counts,
                       const int32_t* skipped, const int32_t* first, const int32_t* pages, int* bad_row) {
  *bad_row = -1;
  try {
    auto plan = std::make_unique<Plan>();
    plan->shape = engine->shape;
    plan->extents = extents;
    plan->first.assign(first, first + int64_t(rows) * extents);
    plan->pages.assign(pages, pages + int64_t(rows) * extents);
    for (int r = 0, token = 0; r < rows; token += counts[r++]) {
      const int64_t at = int64_t(r) * extents;
      plan->rows.push_back({plan->first.data() + at, plan->pages.data() + at, extents, skipped[r], starts[r],
                            counts[r], token});
    }
    *bad_row = place_tokens(*plan);
    return *bad_row < 0 ? plan.release() : nullptr;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

API void infergc_plan_free(Plan* plan) { delete plan; }

// Stores the step's K and V ([T][G][D], strides of T in elements) in their pages.
API int infergc_write(Engine* engine, const Plan* plan, const char* k, const char* v, int64_t k_stride,
                      int64_t v_stride, char* k_pages, char* v_pages, int64_t page_count) {
  if (plan->max_page >= page_count) return kPageOutOfRange;
  const Shape& s = engine->shape;
  const int64_t bytes = engine->element() * s.head_dim, tokens = int64_t(plan->slots.size());
  auto put = [&](const char* from, int64_t stride, char* to, int64_t t) {
    const int64_t page = plan->slots[t] / s.page_tokens, within = plan->slots[t] % s.page_tokens;
    from += t * stride * int64_t(engine->element());
    to += page * int64_t(engine->page_bytes()) + within * bytes;
    for (int g = 0; g < s.kv_heads; g++)
      std::memcpy(to + g * s.page_tokens * bytes, from + g * bytes, size_t(bytes));
  };
  const int64_t chunk = std::max<int64_t>(1, kWorthThreadsBytes / (2 * s.kv_heads * bytes));
  engine->pool.run(int((tokens + chunk - 1) / chunk), [&](int, int task) {
    for (int64_t t = task * chunk; t < std::min(tokens, (task + 1) * chunk); t++) {
      put(k, k_stride, k_pages, t);
      put(v, v_stride, v_pages, t);
    }
  });
  return kOk;
}

// Attention of the step's queries ([T][H][D], stride of T in elements) into out ([T][H][D], contiguous).
API int infergc_attend(Engine* engine, Plan* plan, const void* q, int64_t q_stride, const void* k_pages,
                       const void* v_pages, int64_t page_count, void* out, float scale, int window) {
  if (plan->max_page >= page_count) return kPageOutOfRange;
  try {
    if (plan->window != window) {
      if (!sees_held_pages(*plan, window)) return kReleasedPage;
      plan->schedule = make_schedule(*plan, window, engine->pool.threads());
      plan->window = window;
    }
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
  if (!engine->states.reserve(plan->schedule.states * sizeof(float))) return kNoMemory;
  const float log2e = 1.44269504088896341f;
  run_tasks(*engine, *plan, {engine->shape, plan->rows.data(), q, q_stride, k_pages, v_pages, out, scale * log2e,
                             window, static_cast<float*>(engine->states.data), plan->schedule.merges.data()});
  return kOk;
}
