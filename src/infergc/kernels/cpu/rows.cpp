// What a decoder does to each row beside products and attention, for one instruction set.
//
// Compiled as attention.cpp is. Every step is rounded where torch rounds it; a row's bits depend on that row alone.

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "dense.hpp"
#include "kernels.hpp"

namespace infergc {
namespace VARIANT {
namespace {

#include "vec.hpp"

// Calls with_vector(d) for whole vectors of [0, width), with_rest(d) for what is left.
template <class Vectors, class Rest>
INLINE void sweep(int width, Vectors with_vector, Rest with_rest) {
  int d = 0;
  for (; d + W <= width; d += W) with_vector(d);
  for (; d < width; d++) with_rest(d);
}

template <class T>
INLINE float rounded(float x) {
  return T::to_float(T::from_float(x));
}

template <class T>
INLINE V at(const typename T::Elem* p) {
  return T::template load_row<V>(p);
}

// 1 / sqrt(mean square + eps)
template <class T>
INLINE float rms_scale(const typename T::Elem* x, int width, float eps) {
  V squares{};
  float rest = 0;
  sweep(
      width, [&](int d) { squares = madd(at<T>(x + d), at<T>(x + d), squares); },
      [&](int d) { rest += T::to_float(x[d]) * T::to_float(x[d]); });
  return 1.0f / __builtin_sqrtf((reduce_sum(squares) + rest) / float(width) + eps);
}

// RMSNorm (Zhang and Sennrich 2019): in float32, rounded before the weight.
template <class T>
INLINE void norm_row(const typename T::Elem* x, const typename T::Elem* weight, int width, float eps,
                     typename T::Elem* out) {
  const float scale = rms_scale<T>(x, width, eps);
  sweep(
      width, [&](int d) { T::store_row(out + d, at<T>(weight + d) * T::round(at<T>(x + d) * splat(scale))); },
      [&](int d) { out[d] = T::from_float(T::to_float(weight[d]) * rounded<T>(T::to_float(x[d]) * scale)); });
}

template <class T>
void add_norm(const Norm& n, int64_t begin, int64_t end) {
  using Elem = typename T::Elem;
  const auto *delta = static_cast<const Elem*>(n.delta), *weight = static_cast<const Elem*>(n.weight);
  for (int64_t row = begin; row < end; row++) {
    Elem* hidden = static_cast<Elem*>(n.hidden) + row * n.width;
    if (delta != nullptr) {
      const Elem* more = delta + row * n.width;
      sweep(
          n.width, [&](int d) { T::store_row(hidden + d, at<T>(hidden + d) + at<T>(more + d)); },
          [&](int d) { hidden[d] = T::from_float(T::to_float(hidden[d]) + T::to_float(more[d])); });
    }
    norm_row<T>(hidden, weight, n.width, n.eps, static_cast<Elem*>(n.out) + row * n.width);
  }
}

// x / (1 + e^-x); exp2 takes what is not positive.
INLINE V silu(V x) {
  const V zero{}, one = splat(1.0f), magnitude = maximum(x, -x);
  const V e = exp2(magnitude * splat(-1.44269504088896341f));
  return x * (x < zero ? e : one) / (one + e);
}

template <class T>
void silu_mul(const void* x, int width, void* out, int64_t begin, int64_t end) {
  using Elem = typename T::Elem;
  for (int64_t row = begin; row < end; row++) {
    const Elem *gate = static_cast<const Elem*>(x) + row * 2 * width, *up = gate + width;
    Elem* to = static_cast<Elem*>(out) + row * width;
    sweep(
        width, [&](int d) { T::store_row(to + d, T::round(silu(at<T>(gate + d))) * at<T>(up + d)); },
        [&](int d) {
          to[d] = T::from_float(rounded<T>(silu(splat(T::to_float(gate[d])))[0]) * T::to_float(up[d]));
        });
  }
}

// Turns pair (i, i + D / 2) by its token's angle (Su et al. 2021).
template <class T>
INLINE void rotate_head(typename T::Elem* x, const typename T::Elem* cos, const typename T::Elem* sin, int half) {
  sweep(
      half,
      [&](int d) {
        const V low = at<T>(x + d), high = at<T>(x + half + d), c = at<T>(cos + d), s = at<T>(sin + d);
        T::store_row(x + d, T::round(low * c) - T::round(high * s));
        T::store_row(x + half + d, T::round(high * c) + T::round(low * s));
      },
      [&](int d) {
        const float low = T::to_float(x[d]), high = T::to_float(x[half + d]);
        const float c = T::to_float(cos[d]), s = T::to_float(sin[d]);
        x[d] = T::from_float(rounded<T>(low * c) - rounded<T>(high * s));
        x[half + d] = T::from_float(rounded<T>(high * c) + rounded<T>(low * s));
      });
}

template <class T>
void rotate(const Rotation& r, int64_t begin, int64_t end) {
  using Elem = typename T::Elem;
  const auto *q_norm = static_cast<const Elem*>(r.q_norm), *k_norm = static_cast<const Elem*>(r.k_norm);
  const int half = r.dims / 2;
  for (int64_t row = begin; row < end; row++) {
    Elem* x = reinterpret_cast<Elem*>(r.x) + row * r.stride;
    for (int head = 0; head < r.q_heads + r.kv_heads; head++, x += r.dims) {
      const Elem* weight = head < r.q_heads ? q_norm : k_norm;
      if (weight != nullptr) norm_row<T>(x, weight, r.dims, r.eps, x);
      rotate_head<T>(x, static_cast<const Elem*>(r.cos) + row * half, static_cast<const Elem*>(r.sin) + row * half,
                     half);
    }
  }
}

template <class T>
RowKernels kernels() {
  return {add_norm<T>, silu_mul<T>, rotate<T>};
}

}  // namespace

RowKernels row_kernels(int dtype) {
  if (dtype == kFloat32) return kernels<Float32>();
  if (dtype == kFloat16) return kernels<Float16>();
  return kernels<Bfloat16>();
}

}  // namespace VARIANT
}  // namespace infergc
