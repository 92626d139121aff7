// Vectors of one instruction set, and the element types of K, V and Q.
//
// Included inside the anonymous namespace of a translation unit that sets LANES: nothing here may have
// external linkage, or the linker could hand code compiled for one CPU to another.

constexpr int W = LANES;

typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint32_t U4 __attribute__((vector_size(16)));

#define INLINE inline __attribute__((always_inline))

template <class To, class From>
INLINE To bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}

template <class To>
INLINE To load(const void* p) {
  To x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

template <class X>
INLINE void store(void* p, X x) {
  __builtin_memcpy(p, &x, sizeof x);
}

INLINE V splat(float x) { return x - V{}; }
INLINE V maximum(V a, V b) { return a < b ? b : a; }

// The only form in which products are added, so that contraction to fused multiply-add is the same everywhere.
template <class X>
INLINE X madd(X a, X b, X c) {
  return a * b + c;
}

template <int... N>
struct Seq {};
template <int N, int... Rest>
struct MakeSeq : MakeSeq<N - 1, N - 1, Rest...> {};
template <int... Rest>
struct MakeSeq<0, Rest...> {
  using type = Seq<Rest...>;
};
using Lanes = typename MakeSeq<W>::type;

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls f(Count<n>) for a count n in [1, Most] known only at run time.
template <int Most, class F>
INLINE void with_count(int n, F f) {
  if constexpr (Most > 1)
    if (n < Most) return with_count<Most - 1>(n, f);
  f(Count<Most>{});
}

template <int Step, int... N>
INLINE V rotate(V x, Seq<N...>) {
  return __builtin_shufflevector(x, x, ((N + Step) % W)...);
}

template <int Step = W / 2>
INLINE float reduce_max(V x) {
  x = maximum(x, rotate<Step>(x, Lanes{}));
  if constexpr (Step > 1) return reduce_max<Step / 2>(x);
  return x[0];
}

template <int Step = W / 2>
INLINE float reduce_sum(V x) {
  x = x + rotate<Step>(x, Lanes{});
  if constexpr (Step > 1) return reduce_sum<Step / 2>(x);
  return x[0];
}

// 2^x for x ≤ 0: exactly 1 at 0, exactly 0 below 2^-125. The polynomial has degree 5, p(0) = 1 and the least
// maximal relative error on [-1/2, 1/2]: 1.9e-7 in float arithmetic.
INLINE V exp2(V x) {
  const V magic = splat(12582912.0f);  // 1.5 × 2^23: adding it rounds to an integer, left in the low bits
  V low = splat(-125.0f);
  V clamped = x < low ? low : x;
  V rounded = clamped + magic;
  V f = clamped - (rounded - magic);
  V p = splat(1.3264727e-3f);
  p = madd(p, f, splat(9.6715130e-3f));
  p = madd(p, f, splat(5.5507336e-2f));
  p = madd(p, f, splat(2.4022242e-1f));
  p = madd(p, f, splat(6.9314700e-1f));
  p = madd(p, f, splat(1.0f));
  V y = bits<V>(bits<I>(p) + (bits<I>(rounded) << 23));
  return x < low ? V{} : y;
}

INLINE float exp2(float x) { return exp2(splat(x))[0]; }

// ---- element types -------------------------------------------------------------------------------------
// A 32-bit unit of memory holds kPack dims. expand() turns a vector of units into kPack vectors of floats.

template <class To, class From>
INLINE To widen(From x) {  // 16-bit lanes to 32-bit lanes, or back
  return __builtin_convertvector(x, To);
}

template <class X>
struct Halves;  // the 16-bit vector with as many lanes as X
template <>
struct Halves<V> {
  typedef uint16_t type __attribute__((vector_size(2 * W)));
  using wide = U;
};
#if LANES == 16
typedef float V8 __attribute__((vector_size(32)));
typedef uint32_t U8 __attribute__((vector_size(32)));
template <>
struct Halves<V8> {
  typedef uint16_t type __attribute__((vector_size(16)));
  using wide = U8;
};
#endif

struct Float32 {
  using Elem = float;
  static constexpr int kPack = 1;
  static constexpr bool kDot = false;
  static INLINE void expand(U x, V (&dims)[1]) { dims[0] = bits<V>(x); }
  template <class X>
  static INLINE X load_row(const Elem* p) {
    return load<X>(p);
  }
  static INLINE V round(V x) { return x; }
  static INLINE void store_row(Elem* p, V x) { store(p, x); }
  static float to_float(Elem x) { return x; }
  static Elem from_float(float x) { return x; }
};

struct Bfloat16 {
  using Elem = uint16_t;
  static constexpr int kPack = 2;
  static constexpr bool kDot = false;
  static INLINE void expand(U x, V (&dims)[2]) {
    dims[0] = bits<V>(x << 16);
    dims[1] = bits<V>(x & 0xffff0000u);
  }
  template <class X>
  static INLINE X load_row(const Elem* p) {
    return bits<X>(widen<typename Halves<X>::wide>(load<typename Halves<X>::type>(p)) << 16);
  }
  static INLINE U rounded_bits(V x) {  // as from_float, in the upper half
    const U b = bits<U>(x), quiet = b | 0x400000u;
    const U nearest = b + 0x7fffu + (b >> 16 & 1u);
    return bits<U>((b & 0x7fffffffu) > 0x7f800000u ? quiet : nearest) & 0xffff0000u;
  }
  static INLINE V round(V x) { return bits<V>(rounded_bits(x)); }
  static INLINE void store_row(Elem* p, V x) { store(p, widen<Halves<V>::type>(rounded_bits(x) >> 16)); }
  static float to_float(Elem x) { return bits<float>(uint32_t(x) << 16); }
  static Elem from_float(float x) {
    uint32_t b = bits<uint32_t>(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) return Elem(b >> 16 | 0x40);  // quiet NaN
    return Elem((b + 0x7fffu + (b >> 16 & 1)) >> 16);                  // round to nearest even
  }
};

// Pairs of bfloat16 multiplied and added in one instruction: one of AVX-512-BF16, or its plain equivalent.
struct Bfloat16Dot : Bfloat16 {
  static constexpr bool kDot = true;
#if defined(__AVX512BF16__) && LANES == 16
  static INLINE V dot(U q, U k, V sum) {
    return bits<V>(_mm512_dpbf16_ps(bits<__m512>(sum), bits<__m512bh>(q), bits<__m512bh>(k)));
  }
#else
  static INLINE V dot(U q, U k, V sum) {
    sum = madd(bits<V>(q & 0xffff0000u), bits<V>(k & 0xffff0000u), sum);
    return madd(bits<V>(q << 16), bits<V>(k << 16), sum);
  }
#endif
};

struct Float16 {
  using Elem = uint16_t;
  static constexpr int kPack = 2;
  static constexpr bool kDot = false;
  template <class X>
  static INLINE X half(typename Halves<X>::wide h) {  // moves the fields, rescales the exponent: exact
    using Wide = typename Halves<X>::wide;
    Wide magnitude = h & 0x7fffu;
    X x = bits<X>(magnitude << 13) * 0x1p112f;
    Wide special = bits<Wide>(magnitude >= 0x7c00u) & 0x7f800000u;
    return bits<X>(bits<Wide>(x) | (h & 0x8000u) << 16 | special);
  }
  static INLINE void expand(U x, V (&dims)[2]) {
    dims[0] = half<V>(x & 0xffffu);
    dims[1] = half<V>(x >> 16);
  }
  template <class X>
  static INLINE X load_row(const Elem* p) {
    return half<X>(widen<typename Halves<X>::wide>(load<typename Halves<X>::type>(p)));
  }
  static INLINE V round(V x) {
    for (int i = 0; i < W; i++) x[i] = to_float(from_float(x[i]));
    return x;
  }
  static INLINE void store_row(Elem* p, V x) {
    for (int i = 0; i < W; i++) p[i] = from_float(x[i]);
  }
  static float to_float(Elem x) { return half<V>(U{x})[0]; }
  static Elem from_float(float x) {
    uint32_t b = bits<uint32_t>(x), sign = b & 0x80000000u;
    b ^= sign;
    uint32_t h;
    if (b >= 0x47800000u)  // 65536 and above, infinity, NaN
      h = b > 0x7f800000u ? 0x7e00u : 0x7c00u;
    else if (b < 0x38800000u)  // subnormal: adding 1/2 shifts and rounds
      h = bits<uint32_t>(bits<float>(b) + 0.5f) - bits<uint32_t>(0.5f);
    else
      h = (b + 0xc8000fffu + (b >> 13 & 1)) >> 13;
    return Elem(h | sign >> 16);
  }
};

// Calls f with the element type of a Dtype; bfloat16 goes by pairs where the instruction set multiplies them.
template <class F>
INLINE auto with_type(int dtype, F f) {
  if (dtype == kFloat32) return f(Float32{});
  if (dtype == kFloat16) return f(Float16{});
#if PAIRS
  return f(Bfloat16Dot{});
#else
  return f(Bfloat16{});
#endif
}

// ---- transposition -------------------------------------------------------------------------------------

// Lane-local interleaving of 32-bit elements: in every 128 bits, {a0 b0 a1 b1} or {a2 b2 a3 b3}.
template <int High, int... N>
INLINE U zip(U a, U b, Seq<N...>) {
  return __builtin_shufflevector(a, b, (N / 4 * 4 + High * 2 + N % 4 / 2 + (N % 2) * W)...);
}

// Lane-local interleaving of 64-bit halves: in every 128 bits, {a0 a1 b0 b1} or {a2 a3 b2 b3}.
template <int High, int... N>
INLINE U zip_pairs(U a, U b, Seq<N...>) {
  return __builtin_shufflevector(a, b, (N / 4 * 4 + High * 2 + N % 2 + (N % 4 / 2) * W)...);
}

// Four units from each of W / 4 rows, one row in each 128 bits; `rows` are four apart.
template <class Elem>
INLINE U gather4(const Elem* const* rows, int64_t dim) {
  U4 r[W / 4];
#pragma GCC unroll 4
  for (int i = 0; i < W / 4; i++) r[i] = load<U4>(rows[4 * i] + dim);
#if LANES == 4
  return r[0];
#elif LANES == 8
  return __builtin_shufflevector(r[0], r[1], 0, 1, 2, 3, 4, 5, 6, 7);
#else
  auto low = __builtin_shufflevector(r[0], r[1], 0, 1, 2, 3, 4, 5, 6, 7);
  auto high = __builtin_shufflevector(r[2], r[3], 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

// Units [0, units) of W rows, written as [units][W]. `units` is a multiple of 4.
template <class T>
INLINE void transpose(const typename T::Elem* base, const int64_t* offset, int64_t units, uint32_t* to) {
  const typename T::Elem* rows[W];  // local, so that the stores below cannot be taken to change them
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) rows[i] = base + offset[i];
  for (int64_t dim = 0; dim < units * T::kPack; dim += 4 * T::kPack, to += 4 * W) {
    U a = gather4(rows, dim), b = gather4(rows + 1, dim), c = gather4(rows + 2, dim), d = gather4(rows + 3, dim);
    U ab = zip<0>(a, b, Lanes{}), cd = zip<0>(c, d, Lanes{});
    U ab_high = zip<1>(a, b, Lanes{}), cd_high = zip<1>(c, d, Lanes{});
    store(to + 0 * W, zip_pairs<0>(ab, cd, Lanes{}));
    store(to + 1 * W, zip_pairs<1>(ab, cd, Lanes{}));
    store(to + 2 * W, zip_pairs<0>(ab_high, cd_high, Lanes{}));
    store(to + 3 * W, zip_pairs<1>(ab_high, cd_high, Lanes{}));
  }
}
