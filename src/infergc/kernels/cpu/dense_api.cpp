// The plain C interface of products and row operations: tensors are contiguous unless a stride is given.
// Nothing here throws to the caller; what can fail returns a code or null.

#include <memory>
#include <new>
#include <vector>

#include "api.hpp"
#include "buffer.hpp"
#include "pool.hpp"
#include "variants.hpp"

namespace infergc {

constexpr int64_t kWorthThreads = 1 << 17;  // multiply-adds below which waking a thread costs more
constexpr int64_t kRowElements = 1 << 14;   // elements of rows that one task handles
constexpr int kPanels = 4;                  // most panels that one task handles

// Threads and memory for products and row operations in one dtype.
struct Dense {
  Dense(const Variant& v, int d, Pool& p) : linear(v.linear(d)), rows(v.rows(d)), dtype(d), pool(p), sums(p.threads()) {}

  int64_t element() const { return dtype == kFloat32 ? 4 : 2; }
  int64_t units(int inputs) const { return linear.pairs ? (inputs + 1) / 2 : inputs; }
  int64_t panel_words(int inputs) const { return units(inputs) * linear.panel_words; }
  int panels(int outputs) const { return (outputs + linear.panel - 1) / linear.panel; }
  int tiles(int count) const { return (count + linear.tile - 1) / linear.tile; }

  // Memory for a product of so many rows and inputs.
  bool reserve(int count, int inputs) {
    for (Buffer& buffer : sums)
      if (!buffer.reserve(sizeof(float) * kPanels * linear.block * linear.tile * linear.panel)) return false;
    return packed.reserve(sizeof(uint32_t) * count * units(inputs));
  }

  // Calls job(begin, end) for all rows, in tasks of equal size.
  template <class Job>
  void each_row(int64_t count, int64_t width, const Job& job) const {
    const int64_t size = std::max<int64_t>(1, kRowElements / width);
    pool.run(int((count + size - 1) / size),
             [&](int, int task) { job(task * size, std::min(count, (task + 1) * size)); });
  }

  LinearKernels linear;
  RowKernels rows;
  int dtype;
  Pool& pool;
  Buffer packed;             // the rows of the product at hand
  std::vector<Buffer> sums;  // one a thread
};

namespace {

void pack_rows(Dense& d, const char* x, int64_t stride, int count, int inputs) {
  const int tiles = d.tiles(count);
  auto pack = [&](int, int t) {
    const int64_t low = int64_t(count) * t / tiles, high = int64_t(count) * (t + 1) / tiles;
    auto* to = static_cast<uint32_t*>(d.packed.data) + low * d.units(inputs);
    d.linear.pack_rows(x + low * stride * d.element(), stride, int(high - low), inputs, to);
  };
  d.pool.run(tiles, pack, int64_t(count) * inputs < kRowElements);
}

void multiply(Dense& d, const Matrix& m, const Rows& rows, void* y) {
  const int panels = d.panels(m.outputs), size = std::clamp(panels / (4 * d.pool.threads()), 1, kPanels);
  auto sweep = [&](int worker, int task) {
    auto* sums = static_cast<float*>(d.sums[worker].data);
    d.linear.multiply(m, rows, task * size, std::min(panels, (task + 1) * size), sums, y);
  };
  d.pool.run((panels + size - 1) / size, sweep, int64_t(rows.count) * m.outputs * m.inputs < kWorthThreads);
}

}  // namespace
}  // namespace infergc

using namespace infergc;

// Threads for engines and dense work alike; null when there are none to be had.
API Pool* infergc_pool(int threads) {
  try {
    return new Pool(threads);
  } catch (const std::exception&) {
    return nullptr;
  }
}

API void infergc_pool_free(Pool* pool) { delete pool; }

// For one dtype; null when memory is short. The caller has checked that the variant runs, and keeps the pool for
// as long as the result.
API Dense* infergc_dense(int variant, int dtype, Pool* pool) {
  try {
    return new Dense(*variant_at(variant), dtype, *pool);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

API void infergc_dense_free(Dense* dense) { delete dense; }

// Bytes of a matrix once it is packed.
API int64_t infergc_packed_bytes(const Dense* dense, int outputs, int inputs) {
  return int64_t(sizeof(uint32_t)) * dense->panels(outputs) * dense->panel_words(inputs);
}

// Lays weight [outputs][inputs] out for infergc_linear.
API void infergc_pack(const Dense* dense, const void* weight, int outputs, int inputs, uint32_t* panels) {
  dense->pool.run(dense->panels(outputs), [&](int, int panel) {
    dense->linear.pack(weight, outputs, inputs, panel, panels + panel * dense->panel_words(inputs));
  });
}

// y [rows][outputs] = x [rows][inputs] times the packed matrix, plus bias where there is one.
API int infergc_linear(Dense* dense, const char* x, int64_t stride, int rows, int outputs, int inputs,
                       const uint32_t* panels, const void* bias, void* y) {
  if (!dense->reserve(rows, inputs)) return kNoMemory;
  pack_rows(*dense, x, stride, rows, inputs);
  multiply(*dense, {outputs, inputs, panels, bias}, {static_cast<uint32_t*>(dense->packed.data), rows}, y);
  return kOk;
}

// y [rows][inputs] = those rows of the packed matrix.
API int infergc_embed(const Dense* dense, const int64_t* ids, int rows, int outputs, int inputs,
                      const uint32_t* panels, char* y) {
  for (int r = 0; r < rows; r++)
    if (ids[r] < 0 || ids[r] >= outputs) return kIdOutOfRange;
  const Matrix matrix{outputs, inputs, panels, nullptr};
  dense->each_row(rows, inputs, [&](int64_t begin, int64_t end) {
    dense->linear.embed(matrix, ids + begin, int(end - begin), y + begin * inputs * dense->element());
  });
  return kOk;
}

// hidden += delta, unless delta is null; out = weight × hidden, scaled to a mean square of one.
API void infergc_add_norm(const Dense* dense, void* hidden, const void* delta, const void* weight, float eps,
                          int rows, int width, void* out) {
  const Norm norm{hidden, delta, weight, out, width, eps};
  dense->each_row(rows, width, [&](int64_t begin, int64_t end) { dense->rows.add_norm(norm, begin, end); });
}

// out [rows][width] = silu(left half of x) × right half; x is [rows][2 × width].
API void infergc_silu_mul(const Dense* dense, const void* x, int rows, int width, void* out) {
  dense->each_row(rows, width, [&](int64_t begin, int64_t end) { dense->rows.silu_mul(x, width, out, begin, end); });
}

// Rotates, in place, the query and key heads with which each row of x begins; norms them first where given.
API void infergc_rotate(const Dense* dense, char* x, int64_t stride, int rows, int q_heads, int kv_heads, int dims,
                        const void* cos, const void* sin, const void* q_norm, const void* k_norm, float eps) {
  const Rotation rotation{x, stride, q_heads, kv_heads, dims, cos, sin, q_norm, k_norm, eps};
  dense->each_row(rows, int64_t(q_heads + kv_heads) * dims,
                  [&](int64_t begin, int64_t end) { dense->rows.rotate(rotation, begin, end); });
}
