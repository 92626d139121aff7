// Paged attention for one instruction set. Compiled once for each, with
//   LANES   floats in a vector (4, 8 or 16)
//   VARIANT name of the instruction set, and of the namespace that holds its kernels
//   PAIRS   1 where bfloat16 scores are computed by multiplying pairs (AVX-512-BF16, or its emulation)
//
// A task walks its splits; a split walks its blocks of keys: transpose K, scores, weights, weighted V.
// Every sum over keys runs in position order and every masked key adds an exact zero, so that a token's bits
// depend on its query and on K and V up to its position, and on nothing else.

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels.hpp"

namespace infergc {
namespace VARIANT {
namespace {

#include "vec.hpp"
#include "tile.hpp"

constexpr int kPackRows = 12;     // from this many rows on, keys are widened and values packed before use
constexpr int kRows = LANES == 16 ? 12 : 6;  // rows at once: with these, sums fill the registers
constexpr float kNothing = -__builtin_inff();

template <class T>
void load_queries(const Tile& t) {
  using Elem = typename T::Elem;
  for (int r = 0; r < t.rows; r++) {
    const Elem* q = static_cast<const Elem*>(t.call.q) + t.query(r, t.call.q_stride);
    float* to = t.scratch.q + r * t.dims;
    if constexpr (T::kDot)
      __builtin_memcpy(to, q, t.dims * sizeof(Elem));
    else
      for (int d = 0; d < t.dims; d++) to[d] = T::to_float(q[d]);
  }
}

// ---- scores: R rows × N vectors of keys ----------------------------------------------------------------

template <class T, int R, int N>
INLINE void score_tile(const Tile& t, int r0, int key) {
  const int64_t dims = t.dims, units = dims / T::kPack;
  const uint32_t* keys = t.scratch.keys + key * units;
  const float* q = t.scratch.q + r0 * dims;
  V sum[R][N] = {};
  for (int64_t u = 0; u < units; u++, keys += W) {
    if constexpr (T::kDot) {
      U k[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) k[n] = load<U>(keys + n * units * W);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        U pair = bits<uint32_t>(q[r * dims + u]) + U{};
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) sum[r][n] = T::dot(pair, k[n], sum[r][n]);
      }
    } else {
      V k[N][T::kPack];
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) T::expand(load<U>(keys + n * units * W), k[n]);
#pragma GCC unroll 2
      for (int x = 0; x < T::kPack; x++)
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
          V one = splat(q[r * dims + u * T::kPack + x]);
#pragma GCC unroll 4
          for (int n = 0; n < N; n++) sum[r][n] = madd(one, k[n][x], sum[r][n]);
        }
    }
  }
  float* to = t.scratch.scores + r0 * kBlock + key;
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) store(to + r * kBlock + n * W, sum[r][n] * t.call.scale);
}

template <class T, int R>
void score_rows(const Tile& t, int r0, const Block& b) {
  constexpr int N = R <= 2 ? 4 : 2;
  int key = round_down(b.low, W);
  for (; key + N * W <= kBlock && key + (N - 1) * W < b.high; key += N * W) score_tile<T, R, N>(t, r0, key);
  for (; key < b.high; key += W) score_tile<T, R, 1>(t, r0, key);
}

template <class T>
void score_all(const Tile& t, const Block& b) {
  for (int r = 0; r < t.rows; r += kRows)
    with_count<kRows>(least(kRows, t.rows - r), [&](auto count) { score_rows<T, count.value>(t, r, b); });
}

// The keys of a vector, transposed: as they are, [units][W], or widened to floats, [dims][W].
template <class T>
INLINE void lay_out_keys(const Tile& t, const int64_t* offset, bool wide, uint32_t* to) {
  const auto* k = static_cast<const typename T::Elem*>(t.call.k);
  const int units = t.dims / T::kPack;
  if (!wide) return transpose<T>(k, offset, units, to);
  uint32_t narrow[kMaxDims / T::kPack * W];
  transpose<T>(k, offset, units, narrow);
  for (int u = 0; u < units; u++) {
    V dims[T::kPack];
    T::expand(load<U>(narrow + u * W), dims);
    for (int x = 0; x < T::kPack; x++, to += W) store(to, dims[x]);
  }
}

template <class T>
void score(const Tile& t, const Block& b) {
  const bool wide = T::kPack == 2 && !T::kDot && t.rows >= kPackRows;  // widening pays when many rows use it
  const int words = wide ? t.dims : t.dims / T::kPack;
  for (int key = round_down(b.low, W); key < b.high; key += W) {
    prefetch<T>(t, t.call.v, b, key, key + W);
    lay_out_keys<T>(t, b.offset + key, wide, t.scratch.keys + key * words);
  }
  if (wide)
    score_all<Float32>(t, b);
  else
    score_all<T>(t, b);
}

// ---- weights: the online softmax (Milakov and Gimelshein 2018), in base 2 ------------------------------

INLINE void mask(float* scores, int low, int high) {  // keys outside [low, high) count for nothing
  I index;
  for (int i = 0; i < W; i++) index[i] = i;
#pragma GCC unroll 1
  for (int j = 0; j < kBlock; j += W, index += W) {
    I seen = (index >= low) & (index < high);
    store(scores + j, seen ? load<V>(scores + j) : splat(kNothing));
  }
}

INLINE void rescale(float* state, float* sums, int dims, float factor) {
  store(sums, load<V>(sums) * factor);
  for (int d = kState; d < kState + dims; d += W) store(state + d, load<V>(state + d) * factor);
}

INLINE void weigh_row(const Tile& t, int r, const Block& b) {
  float* scores = t.scratch.scores + r * kBlock;
  float* state = t.scratch.part + r * t.state;
  float* sums = t.scratch.sums + r * 16;
  const int position = t.position(r);
  const int low = most(0, t.first_key(position) - b.base), high = least(kBlock, position + 1 - b.base);
  if (low > 0 || high < kBlock) mask(scores, low, high);
  V top = load<V>(scores);
  for (int j = W; j < kBlock; j += W) top = maximum(top, load<V>(scores + j));
  const float old = state[0], now = reduce_max(maximum(top, splat(old)));
  if (now == kNothing) {  // this row has seen no key yet: all weights are zero
    for (int j = 0; j < kBlock; j += W) store(scores + j, V{});
    return;
  }
  if (now != old) rescale(state, sums, t.dims, exp2(old - now));
  state[0] = now;
  V sum = load<V>(sums);
  for (int j = 0; j < kBlock; j += W) {
    V weight = exp2(load<V>(scores + j) - now);
    store(scores + j, weight);
    sum += weight;
  }
  store(sums, sum);
}

// ---- weighted values: R rows × N vectors of dims -------------------------------------------------------

// Values as they lie in their pages.
template <class T, class X>
struct InPages {
  const typename T::Elem* base;
  const int64_t* offset;
  INLINE X at(int j, int n) const { return T::template load_row<X>(base + offset[j] + n * int(sizeof(X) / 4)); }
};

// Values packed as [vector][kBlock].
struct Packed {
  const float* base;
  INLINE V at(int j, int n) const { return load<V>(base + (n * kBlock + j) * W); }
};

template <class X, int R, int N, class Source>
INLINE void add_tile(const Tile& t, int r0, int d, const Block& b, Source values) {
  constexpr int width = sizeof(X) / 4;
  float* to = t.scratch.part + r0 * t.state + kState + d;
  const float* weights = t.scratch.scores + r0 * kBlock;
  X sum[R][N];
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) sum[r][n] = load<X>(to + r * t.state + n * width);
  for (int j = b.low; j < b.high; j++) {
    X value[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) value[n] = values.at(j, n);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      X weight = weights[r * kBlock + j] - X{};
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) sum[r][n] = madd(weight, value[n], sum[r][n]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) store(to + r * t.state + n * width, sum[r][n]);
}

template <class X, int N, class Source>
void add_rows(const Tile& t, int d, const Block& b, Source values) {
  for (int r = 0; r < t.rows; r += kRows)
    with_count<kRows>(least(kRows, t.rows - r),
                      [&](auto count) { add_tile<X, count.value, N>(t, r, d, b, values); });
}

// Values read where they lie, a few whole rows at a time: memory is walked in order.
template <class T>
void add_in_pages(const Tile& t, const Block& b, const Block& ahead) {
  constexpr int kStride = 8;
  const auto* v = static_cast<const typename T::Elem*>(t.call.v);
  for (int j = round_down(b.low, kStride); j < b.high; j += kStride) {
    Block some = b;
    some.low = most(b.low, j), some.high = least(b.high, j + kStride);
    int d = 0, asked = j;
    for (; d + 2 * W <= t.dims; d += 2 * W) {
      const int until = j + kStride * (d + 2 * W) / t.dims;
      prefetch<T>(t, t.call.k, ahead, asked, until);
      asked = until;
      add_rows<V, 2>(t, d, some, InPages<T, V>{v + d, b.offset});
    }
    for (; d + W <= t.dims; d += W) add_rows<V, 1>(t, d, some, InPages<T, V>{v + d, b.offset});
#if LANES == 16
    if (d < t.dims) add_rows<V8, 1>(t, d, some, InPages<T, V8>{v + d, b.offset});
#endif
  }
}

// Values packed first, so that many query rows can stream through them.
template <class T>
void add_packed(const Tile& t, const Block& b) {
  const auto* v = static_cast<const typename T::Elem*>(t.call.v);
  int d = 0;
  for (; d + 2 * W <= t.dims; d += 2 * W) {
    for (int j = b.low; j < b.high; j++)
      for (int n = 0; n < 2; n++)
        store(t.scratch.values + (n * kBlock + j) * W, InPages<T, V>{v + d, b.offset}.at(j, n));
    add_rows<V, 2>(t, d, b, Packed{t.scratch.values});
  }
  for (; d + W <= t.dims; d += W) add_rows<V, 1>(t, d, b, InPages<T, V>{v + d, b.offset});
#if LANES == 16
  if (d < t.dims) add_rows<V8, 1>(t, d, b, InPages<T, V8>{v + d, b.offset});
#endif
}

// ---- a split, a task -----------------------------------------------------------------------------------

INLINE void clear(float* states, const Tile& t) {
  for (int r = 0; r < t.rows; r++) {
    float* state = states + r * t.state;
    for (int d = 0; d < t.state; d += W) store(state + d, V{});
    state[0] = kNothing;
  }
}

template <class T>
void attend_split(const Tile& t, Walk& walk, int split) {
  clear(t.scratch.part, t);
  for (int r = 0; r < t.rows; r++) store(t.scratch.sums + r * 16, V{});
  for (; walk.now.base < least((split + 1) * kSplit, walk.end); walk.step()) {
    const Block& b = walk.now;
    score<T>(t, b);
    for (int r = 0; r < t.rows; r++) weigh_row(t, r, b);
    if (t.rows < kPackRows)
      add_in_pages<T>(t, b, walk.ahead);
    else
      add_packed<T>(t, b);
  }
  for (int r = 0; r < t.rows; r++) t.scratch.part[r * t.state + 1] = reduce_sum(load<V>(t.scratch.sums + r * 16));
}

// Adds the state of the next split. Never inlined: two copies could contract these products differently.
__attribute__((noinline)) void fold(float* run, const float* part, int state) {
  const float top = run[0] > part[0] ? run[0] : part[0];
  if (top == kNothing) return;
  const float old = exp2(run[0] - top), add = exp2(part[0] - top);
  run[0] = top;
  run[1] = run[1] * old + part[1] * add;
  for (int d = kState; d < state; d += W) store(run + d, load<V>(run + d) * old + load<V>(part + d) * add);
}

void fold_rows(const Tile& t, const float* parts) {
  for (int r = 0; r < t.rows; r++) fold(t.scratch.run + r * t.state, parts + r * t.state, t.state);
}

template <class T>
void write_out(const Tile& t) {
  const int64_t stride = int64_t(t.call.shape.heads) * t.dims;
  for (int r = 0; r < t.rows; r++) {
    const float* state = t.scratch.run + r * t.state;
    auto* out = static_cast<typename T::Elem*>(t.call.out) + t.query(r, stride);
    for (int d = 0; d < t.dims; d++) out[d] = T::from_float(state[kState + d] / state[1]);
  }
}

float* split_states(const Call& call, const Merge& m, int split) {
  return call.states + m.offset + int64_t(split - m.whole.split) * call.shape.tile_rows() * call.shape.state();
}

template <class T>
void attend(const Call& call, const Task& task, const Scratch& scratch) {
  const Tile t(call, task, scratch);
  Walk walk(t);
  load_queries<T>(t);
  clear(scratch.run, t);
  for (int split = task.split; split < task.split_end; split++) {
    attend_split<T>(t, walk, split);
    if (task.merge < 0)
      fold_rows(t, scratch.part);
    else
      __builtin_memcpy(split_states(call, call.merges[task.merge], split), scratch.part,
                       sizeof(float) * t.rows * t.state);
  }
  if (task.merge < 0) write_out<T>(t);
}

template <class T>
void merge(const Call& call, const Merge& m, const Scratch& scratch) {
  const Tile t(call, m.whole, scratch);
  clear(scratch.run, t);
  for (int split = m.whole.split; split < m.whole.split_end; split++) fold_rows(t, split_states(call, m, split));
  write_out<T>(t);
}

template <class T>
AttentionKernels kernels() {
  return {attend<T>, merge<T>};
}

}  // namespace

AttentionKernels attention_kernels(int dtype) {
  return with_type(dtype, [](auto type) { return kernels<decltype(type)>(); });
}

}  // namespace VARIANT
}  // namespace infergc
