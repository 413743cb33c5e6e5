// The noise of LeakRT: Philox4x32-10 and Box-Muller (Salmon et al., SC 2011), for host and device.
//
// counter = (element index / 4, step, draw, sample), key = the 64-bit seed; one counter gives four words and so
// four normals: r cos(theta), r sin(theta) of the pairs (x0, x1) and (x2, x3), with u = ((x >> 8) + 0.5) 2^-24,
// r = sqrt(-2 log u1), theta = float32(2 pi) u2 rounded to float32. The reference is core/noise.py: words agree
// bit for bit, normals within 2e-6.
//
// Everything is branch-free, so that a plain loop over counters becomes vector code. No operation may be fused:
// theta has to be the rounded product, and unfused results are the same on every vector unit and device. On the
// host compile with -ffp-contract=off; the device path names its roundings itself.
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

struct Words {
  std::uint32_t x[4];
};

struct Normals {
  float n[4];
};

// counter[0] is the caller's own: the element index / 4.
struct NoiseStream {
  std::uint64_t seed;
  std::uint32_t step, draw, sample;
};

LEAKRT_HD float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

LEAKRT_HD float mul(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

LEAKRT_HD float square_root(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

LEAKRT_HD std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

LEAKRT_HD float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Ten rounds of Philox4x32.
LEAKRT_HD Words philox4x32(Words c, std::uint64_t seed) {
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c.x[0], p1 = std::uint64_t{0xCD9E8D57u} * c.x[2];
    const std::uint32_t hi0 = static_cast<std::uint32_t>(p0 >> 32), hi1 = static_cast<std::uint32_t>(p1 >> 32);
    c = Words{{hi1 ^ c.x[1] ^ k0, static_cast<std::uint32_t>(p1), hi0 ^ c.x[3] ^ k1,
               static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// A word to (0, 1]. Word >> 8 fits in 24 bits, so the signed conversion is exact.
LEAKRT_HD float uniform(std::uint32_t word) {
  return mul(add(static_cast<float>(static_cast<std::int32_t>(word >> 8)), 0.5f), 0x1p-24f);
}

// Natural logarithm of x in [2^-25, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), f = m - 1,
// log m = f - f^2 / 2 + f^3 P(f), P by minimax fit (relative error of log m below 1e-8).
LEAKRT_HD float natural_log(float x) {
  const std::uint32_t offset = bits_of(x) - 0x3F3504F3u;
  const std::int32_t exponent = static_cast<std::int32_t>(offset) >> 23;
  const float e = static_cast<float>(exponent);
  const float f = add(float_of((offset & 0x007FFFFFu) + 0x3F3504F3u), -1.0f);
  float p = -0.07634493708610535f;
  p = add(mul(p, f), 0.12761574983596802f);
  p = add(mul(p, f), -0.13160182535648346f);
  p = add(mul(p, f), 0.14201758801937103f);
  p = add(mul(p, f), -0.16623356938362122f);
  p = add(mul(p, f), 0.20001226663589478f);
  p = add(mul(p, f), -0.2500081956386566f);
  p = add(mul(p, f), 0.3333333134651184f);
  const float f2 = mul(f, f);
  float low = mul(mul(f2, f), p);
  low = add(low, mul(e, 0x1.7f7d1cp-20f));  // log 2 in two parts, the first of 16 bits: e times it is exact
  low = add(low, mul(f2, -0.5f));
  return add(mul(e, 0x1.62e4p-1f), add(f, low));
}

// Standard normals of one pair of words: (r cos theta, r sin theta).
LEAKRT_HD void box_muller(std::uint32_t radius_word, std::uint32_t angle_word, float& cosine, float& sine) {
  const float r = square_root(mul(-2.0f, natural_log(uniform(radius_word))));
  const float theta = mul(6.2831855f, uniform(angle_word));

  // theta = q pi / 2 + t with |t| <= pi / 4; pi / 2 in two parts, the first of 18 bits: q <= 4 times it is exact.
  const std::int32_t quadrant = static_cast<std::int32_t>(add(mul(theta, 0.63661975f), 0.5f));
  const float q = static_cast<float>(quadrant);
  const float t = add(add(theta, mul(q, -0x1.921f8p+0f)), mul(q, -0x1.aa2216p-19f));
  const float t2 = mul(t, t);

  float s = -0.0001949556899489835f;
  s = add(mul(s, t2), 0.008331977762281895f);
  s = add(mul(s, t2), -0.16666650772094727f);
  s = add(t, mul(mul(t2, t), s));
  float c = 2.4438380933133885e-05f;
  c = add(mul(c, t2), -0.0013887366512790322f);
  c = add(mul(c, t2), 0.04166664555668831f);
  c = add(1.0f, add(mul(t2, -0.5f), mul(mul(t2, t2), c)));

  const std::uint32_t odd = 0u - (static_cast<std::uint32_t>(quadrant) & 1u);  // all ones where the axes swap
  const std::uint32_t sb = bits_of(s), cb = bits_of(c), swap = (sb ^ cb) & odd;
  const std::uint32_t sine_sign = (static_cast<std::uint32_t>(quadrant) & 2u) << 30;
  const std::uint32_t cosine_sign = ((static_cast<std::uint32_t>(quadrant) + 1u) & 2u) << 30;
  cosine = mul(r, float_of((cb ^ swap) ^ cosine_sign));
  sine = mul(r, float_of((sb ^ swap) ^ sine_sign));
}

// The four normals of elements 4 block to 4 block + 3.
LEAKRT_HD Normals four_normals(const NoiseStream& stream, std::uint32_t block) {
  const Words w = philox4x32(Words{{block, stream.step, stream.draw, stream.sample}}, stream.seed);
  Normals out;
  box_muller(w.x[0], w.x[1], out.n[0], out.n[1]);
  box_muller(w.x[2], w.x[3], out.n[2], out.n[3]);
  return out;
}

}  // namespace leakrt
