// The noise of LeakRT: Philox4x32-10 and Box-Muller (Salmon et al., SC 2011), for host and device.
//
// counter = (element index / 4, step, draw, sample), key = the 64-bit seed; one counter gives four words,
// hence four normals: r cos(theta), r sin(theta) of the pairs (x0, x1) and (x2, x3), with u = ((x >> 8) +
// 0.5) 2^-24, r = sqrt(-2 log u1), theta = float32(2 pi) u2 rounded to float32. The reference is
// core/noise.py: words agree bit for bit, normals within 2e-6.
//
// The code is generic over the lane type V: `Scalar` here (host and device), `Vector` in lanes.hpp. It has no
// branches, and no operation may be fused: theta must be the rounded product, and unfused results are bit
// identical on every vector unit and device. The host is compiled with -ffp-contract=off; the device code
// uses intrinsics with explicit rounding.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LEAKRT_HD static __host__ __device__ __forceinline__
#else
// Internal linkage: one copy per instruction set, never merged by the linker with a wider one.
#define LEAKRT_HD static inline __attribute__((always_inline))
#endif

namespace leakrt {

// The counter words and the key that one plane of noise shares.
struct NoiseStream {
  std::uint64_t seed;
  std::uint32_t step, draw, sample;
};

// One lane. F, U and I are float32, uint32 and int32; W is a uint32 in 64 bits with an unspecified upper
// half.
struct Scalar {
  using F = float;
  using U = std::uint32_t;
  using I = std::int32_t;
  using W = std::uint64_t;

  LEAKRT_HD F as_float(U x) {
    F y;
    std::memcpy(&y, &x, sizeof y);
    return y;
  }
  LEAKRT_HD U as_bits(F x) {
    U y;
    std::memcpy(&y, &x, sizeof y);
    return y;
  }
  LEAKRT_HD F to_float(I x) { return static_cast<F>(x); }
  LEAKRT_HD I truncate(F x) { return static_cast<I>(x); }
  LEAKRT_HD I as_signed(U x) { return static_cast<I>(x); }
  LEAKRT_HD U as_unsigned(I x) { return static_cast<U>(x); }
  LEAKRT_HD W broadcast(std::uint32_t x) { return x; }
  // Returns the 64-bit product of the lower halves of a and b.
  LEAKRT_HD W multiply(W a, W b) { return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu); }
  LEAKRT_HD F square_root(F x) {
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(x);
#else
    return __builtin_sqrtf(x);
#endif
  }
};

template <class A, class B>
LEAKRT_HD auto add(A a, B b) -> decltype(a + b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

template <class A, class B>
LEAKRT_HD auto mul(A a, B b) -> decltype(a * b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// Ten rounds of Philox4x32 on c[0..3], in place.
template <class V>
LEAKRT_HD void philox4x32(typename V::W (&c)[4], std::uint64_t seed) {
  const typename V::W m0 = V::broadcast(0xD2511F53u), m1 = V::broadcast(0xCD9E8D57u);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const typename V::W p0 = V::multiply(c[0], m0), p1 = V::multiply(c[2], m1);
    c[0] = (p1 >> 32) ^ c[1] ^ V::broadcast(k0);
    c[1] = p1;
    c[2] = (p0 >> 32) ^ c[3] ^ V::broadcast(k1);
    c[3] = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// Maps a word to (0, 1]. word >> 8 has 24 bits, so the signed conversion is exact.
template <class V>
LEAKRT_HD typename V::F uniform(typename V::U word) {
  return mul(add(V::to_float(V::as_signed(word >> 8)), 0.5f), 0x1p-24f);
}

// Natural logarithm of x in [2^-25, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), f = m - 1,
// log m = f - f^2 / 2 + f^3 p(f), p by minimax fit (relative error of log m below 1e-8).
template <class V>
LEAKRT_HD typename V::F natural_log(typename V::F x) {
  using F = typename V::F;
  const typename V::U offset = V::as_bits(x) - 0x3F3504F3u;
  const F e = V::to_float(V::as_signed(offset) >> 23);
  const F f = add(V::as_float((offset & 0x007FFFFFu) + 0x3F3504F3u), -1.0f);
  const F f2 = mul(f, f);
  const F p01 = add(mul(f, -0.2500081956386566f), 0.3333333134651184f);
  const F p23 = add(mul(f, -0.16623356938362122f), 0.20001226663589478f);
  const F p45 = add(mul(f, -0.13160182535648346f), 0.14201758801937103f);
  const F p67 = add(mul(f, -0.07634493708610535f), 0.12761574983596802f);
  const F p = add(add(p01, mul(f2, p23)), mul(mul(f2, f2), add(p45, mul(f2, p67))));
  // log 2 is split in two; the first part has 16 bits, so its product with e is exact.
  const F low = add(add(mul(mul(f2, f), p), mul(e, 0x1.7f7d1cp-20f)), mul(f2, -0.5f));
  return add(mul(e, 0x1.62e4p-1f), add(f, low));
}

// Returns (r cos theta, r sin theta) for a pair of words.
template <class V>
LEAKRT_HD void box_muller(typename V::U radius, typename V::U angle, typename V::F& cosine,
                          typename V::F& sine) {
  using F = typename V::F;
  using U = typename V::U;
  const F r = V::square_root(mul(natural_log<V>(uniform<V>(radius)), -2.0f));
  const F theta = mul(uniform<V>(angle), 6.2831855f);

  // theta = quarter pi / 2 + t, |t| <= pi / 4. pi / 2 is split in two; the first part has 18 bits, so its
  // product with quarter is exact.
  const typename V::I quarter = V::truncate(add(mul(theta, 0.63661975f), 0.5f));
  const F q = V::to_float(quarter);
  const F t = add(add(theta, mul(q, -0x1.921f8p+0f)), mul(q, -0x1.aa2216p-19f));
  const F t2 = mul(t, t);

  // Minimax fits on [-pi / 4, pi / 4], absolute error below 2e-9.
  const F s2 = add(mul(t2, -0.0001949556899489835f), 0.008331977762281895f);
  const F s = add(t, mul(mul(t2, t), add(mul(s2, t2), -0.16666650772094727f)));
  const F c2 = add(mul(t2, 2.4438380933133885e-05f), -0.0013887366512790322f);
  const F c = add(add(mul(t2, -0.5f), mul(mul(t2, t2), add(mul(c2, t2), 0.04166664555668831f))), 1.0f);

  const U quadrant = V::as_unsigned(quarter), sine_bits = V::as_bits(s), cosine_bits = V::as_bits(c);
  const U swap =
      (sine_bits ^ cosine_bits) & (0u - (quadrant & 1u));  // swaps sine and cosine in odd quadrants
  cosine = mul(r, V::as_float(cosine_bits ^ swap ^ (((quadrant + 1u) & 2u) << 30)));
  sine = mul(r, V::as_float(sine_bits ^ swap ^ ((quadrant & 2u) << 30)));
}

// Returns elements 4 block to 4 block + 3 of the noise.
LEAKRT_HD void four_normals(const NoiseStream& stream, std::uint32_t block, float (&out)[4]) {
  Scalar::W c[4] = {block, stream.step, stream.draw, stream.sample};
  philox4x32<Scalar>(c, stream.seed);
  box_muller<Scalar>(static_cast<std::uint32_t>(c[0]), static_cast<std::uint32_t>(c[1]), out[0], out[1]);
  box_muller<Scalar>(static_cast<std::uint32_t>(c[2]), static_cast<std::uint32_t>(c[3]), out[2], out[3]);
}

}  // namespace leakrt
