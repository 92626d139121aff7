// Products of rows with a matrix, y = x Wᵀ + b, for one instruction set; compiled as attention.cpp is.
//
// The blocking is Goto and van de Geijn's (2008): a tile of rows times a panel of outputs stays in registers, a
// block of a panel in the first cache, a block of rows in the second. Every sum runs over the inputs in order,
// in float32, whatever rows are multiplied beside: a row's bits depend on that row and the matrix alone.

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "dense.hpp"
#include "kernels.hpp"

namespace infergc {
namespace VARIANT {
namespace {

#include "vec.hpp"

constexpr int kVectors = 2;                    // of outputs in a panel
constexpr int kPanel = kVectors * W;           // outputs in a panel
constexpr int kTile = LANES == 16 ? 12 : 6;    // rows in a tile: with these, sums fill the registers
constexpr int kBlock = LANES == 16 ? 8 : 16;   // tiles in a block of rows
constexpr int kBlockWords = 6144;              // of a block of a panel: three quarters of a first-level cache
constexpr int kAhead = 1024;                   // bytes of a panel that are asked for in advance

template <class T>
constexpr bool kOneVector = T::kPack == 2 && !T::kDot;  // a vector of units holds the panel's weights of an input
template <class T>
constexpr int kWords = kOneVector<T> ? W : kPanel;  // of a panel for one unit
template <class T>
constexpr int kInputs = T::kDot ? 2 : 1;  // in a unit

template <class T>
INLINE int units_of(int inputs) {
  return (inputs + kInputs<T> - 1) / kInputs<T>;
}

// Where tile t of `count` rows begins: rows are spread evenly over the tiles.
INLINE int tiles_of(int count) { return (count + kTile - 1) / kTile; }
INLINE int tile_begin(int count, int t) { return int(int64_t(count) * t / tiles_of(count)); }

// ---- layout --------------------------------------------------------------------------------------------

// The word at (unit, place) of a panel whose weights w(input, output) gives as raw bits.
template <class T, class Weight>
INLINE uint32_t word(int unit, int place, Weight w) {
  if constexpr (T::kDot)
    return uint32_t(w(2 * unit, place)) | uint32_t(w(2 * unit + 1, place)) << 16;
  else if constexpr (kOneVector<T>)
    return uint32_t(w(unit, place)) | uint32_t(w(unit, W + place)) << 16;
  else
    return bits<uint32_t>(w(unit, place));
}

template <class T>
void pack(const void* weight, int outputs, int inputs, int panel, uint32_t* to) {
  using Elem = typename T::Elem;
  const auto* from = static_cast<const Elem*>(weight) + int64_t(panel) * kPanel * inputs;
  const int here = outputs - panel * kPanel;
  auto at = [&](int input, int output) {
    return input < inputs && output < here ? from[int64_t(output) * inputs + input] : Elem{};
  };
  for (int unit = 0; unit < units_of<T>(inputs); unit++)
    for (int place = 0; place < kWords<T>; place++) *to++ = word<T>(unit, place, at);
}

template <class T>
void pack_rows(const void* x, int64_t stride, int rows, int inputs, uint32_t* to) {
  using Elem = typename T::Elem;
  for (int r = 0; r < rows; r++) {
    const auto* from = static_cast<const Elem*>(x) + r * stride;
    for (int unit = 0; unit < units_of<T>(inputs); unit++) {
      if constexpr (T::kDot) {
        const uint32_t second = 2 * unit + 1 < inputs ? from[2 * unit + 1] : 0;
        to[unit * rows + r] = from[2 * unit] | second << 16;
      } else {
        to[unit * rows + r] = bits<uint32_t>(T::to_float(from[unit]));
      }
    }
  }
}

// Output n of input k, out of the panels: what `pack` has put in.
template <class T>
INLINE typename T::Elem unpack(const Matrix& m, int n, int k) {
  const uint32_t* panel = m.panels + int64_t(n / kPanel) * units_of<T>(m.inputs) * kWords<T>;
  const int place = n % kPanel;
  const uint32_t found = panel[int64_t(k / kInputs<T>) * kWords<T> + place % kWords<T>];
  if constexpr (T::kDot)
    return typename T::Elem(k % 2 ? found >> 16 : found);
  else if constexpr (kOneVector<T>)
    return typename T::Elem(place >= W ? found >> 16 : found);
  else
    return bits<typename T::Elem>(found);
}

template <class T>
void embed(const Matrix& m, const int64_t* ids, int count, void* y) {
  auto* to = static_cast<typename T::Elem*>(y);
  for (int r = 0; r < count; r++)
    for (int k = 0; k < m.inputs; k++) *to++ = unpack<T>(m, int(ids[r]), k);
}

// ---- a tile of rows times a panel ----------------------------------------------------------------------

template <class T, int R>
INLINE void add_unit(const uint32_t* x, const uint32_t* panel, V (&sum)[R][kVectors]) {
  if constexpr (T::kDot) {
    const U w[2] = {load<U>(panel), load<U>(panel + W)};
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const U pair = x[r] + U{};
      sum[r][0] = T::dot(pair, w[0], sum[r][0]);
      sum[r][1] = T::dot(pair, w[1], sum[r][1]);
    }
  } else {
    V w[2];
    if constexpr (kOneVector<T>)
      T::expand(load<U>(panel), w);
    else
      w[0] = load<V>(panel), w[1] = load<V>(panel + W);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const V value = splat(bits<float>(x[r]));
      sum[r][0] = madd(value, w[0], sum[r][0]);
      sum[r][1] = madd(value, w[1], sum[r][1]);
    }
  }
}

// Adds `units` more to a tile's sums [R][kPanel]; they begin at zero where `first`.
template <class T, int R>
__attribute__((noinline)) void add_tile(const uint32_t* x, const uint32_t* panel, int units, float* sums, bool first) {
  V sum[R][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) {
    sum[r][0] = first ? V{} : load<V>(sums + r * kPanel);
    sum[r][1] = first ? V{} : load<V>(sums + r * kPanel + W);
  }
#pragma GCC unroll 4
  for (int u = 0; u < units; u++, x += R, panel += kWords<T>) {
    for (int line = 0; line < kWords<T>; line += 16) __builtin_prefetch(panel + line + kAhead / 4);
    add_unit<T, R>(x, panel, sum);
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) {
    store(sums + r * kPanel, sum[r][0]);
    store(sums + r * kPanel + W, sum[r][1]);
  }
}

// ---- a block of rows times a block of a panel ----------------------------------------------------------

// Rounds a tile's sums, bias added, into y.
template <class T>
void finish(const Matrix& m, const float* sums, int rows, int output, typename T::Elem* y) {
  using Elem = typename T::Elem;
  const int here = m.outputs - output < kPanel ? m.outputs - output : kPanel;
  Elem bias[kPanel] = {};
  if (m.bias != nullptr) __builtin_memcpy(bias, static_cast<const Elem*>(m.bias) + output, here * sizeof(Elem));
  const V first = T::template load_row<V>(bias), second = T::template load_row<V>(bias + W);
  for (int r = 0; r < rows; r++, sums += kPanel, y += m.outputs) {
    Elem row[kPanel];
    T::store_row(row, load<V>(sums) + first);
    T::store_row(row + W, load<V>(sums + W) + second);
    __builtin_memcpy(y + output, row, here * sizeof(Elem));
  }
}

template <class T>
void multiply(const Matrix& m, const Rows& rows, int begin, int end, float* sums, void* y) {
  const int units = units_of<T>(m.inputs), step = kBlockWords / kWords<T>, tiles = tiles_of(rows.count);
  auto* out = static_cast<typename T::Elem*>(y);
  for (int block = 0; block < tiles; block += kBlock)
    for (int unit = 0; unit < units; unit += step) {
      const int count = units - unit < step ? units - unit : step;
      float* sum = sums;
      for (int panel = begin; panel < end; panel++) {
        const uint32_t* weights = m.panels + (int64_t(panel) * units + unit) * kWords<T>;
        for (int t = block; t < tiles && t < block + kBlock; t++) {
          const int low = tile_begin(rows.count, t), size = tile_begin(rows.count, t + 1) - low;
          const uint32_t* x = rows.packed + int64_t(low) * units + int64_t(unit) * size;
          with_count<kTile>(size, [&](auto n) { add_tile<T, n.value>(x, weights, count, sum, unit == 0); });
          if (unit + count == units) finish<T>(m, sum, size, panel * kPanel, out + int64_t(low) * m.outputs);
          sum += kTile * kPanel;
        }
      }
    }
}

template <class T>
LinearKernels kernels() {
  return {kPanel, kTile, kBlock, T::kDot, kWords<T>, pack<T>, pack_rows<T>, multiply<T>, embed<T>};
}

}  // namespace

LinearKernels linear_kernels(int dtype) {
  return with_type(dtype, [](auto type) { return kernels<decltype(type)>(); });
}

}  // namespace VARIANT
}  // namespace infergc
