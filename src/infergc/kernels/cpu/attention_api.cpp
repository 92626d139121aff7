// The plain C interface: engines (threads and memory of one layer group), plans (one step), and the calls.
// Nothing here throws to the caller; every function that can fail returns a code or null.

#include <cmath>
#include <cstring>
#include <new>

#include "api.hpp"
#include "buffer.hpp"
#include "plan.hpp"
#include "pool.hpp"
#include "variants.hpp"

namespace infergc {

// Threads and memory for the attention of one shape.
struct Engine {
  Engine(const Shape& s, AttentionKernels k, Pool& p) : shape(s), kernels(k), pool(p), memory(p.threads()) {}

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
  AttentionKernels kernels;
  Pool& pool;
  std::vector<Buffer> memory;
  std::vector<Scratch> scratch;  // one a thread
  Buffer states;
};

namespace {

constexpr int64_t kWorthThreads = 1 << 18;       // multiply-adds below which waking a thread costs more
constexpr int64_t kWorthThreadsBytes = 1 << 18;  // bytes to copy, likewise

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
  engine.pool.run(tasks, job, s.cost < kWorthThreads);
}

}  // namespace
}  // namespace infergc

using namespace infergc;

// An engine for one shape; null when memory is short. The caller has checked that the variant runs, and keeps the
// pool for as long as the engine.
API Engine* infergc_engine(int variant, int heads, int kv_heads, int head_dim, int page_tokens, int dtype,
                           Pool* pool) {
  try {
    const Shape shape{heads, kv_heads, head_dim, page_tokens, dtype};
    auto engine = std::make_unique<Engine>(shape, variant_at(variant)->attention(dtype), *pool);
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
