// A lane type for philox.hpp on the vector unit that this file is compiled for. Arithmetic and shifts use GCC
// and Clang vector types; the remaining operations are implemented for x86, 64-bit Arm and, as a fallback,
// any other target.
//
// Everything has internal linkage: the file is compiled once per instruction set, and the linker must not
// merge the copies.
#pragma once

#include <cstdint>

#include "philox.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define LEAKRT_VECTOR_BYTES 64
#define LEAKRT_X86(name) _mm512_##name
#elif defined(__AVX2__)
#define LEAKRT_VECTOR_BYTES 32
#define LEAKRT_X86(name) _mm256_##name
#else
#define LEAKRT_VECTOR_BYTES 16
#define LEAKRT_X86(name) _mm_##name
#endif

namespace leakrt {
namespace {

struct Vector {
  typedef float F __attribute__((vector_size(LEAKRT_VECTOR_BYTES)));
  typedef std::uint32_t U __attribute__((vector_size(LEAKRT_VECTOR_BYTES)));
  typedef std::int32_t I __attribute__((vector_size(LEAKRT_VECTOR_BYTES)));
  typedef std::uint64_t W __attribute__((vector_size(LEAKRT_VECTOR_BYTES)));

  static constexpr int kLanes = LEAKRT_VECTOR_BYTES / 4;

  LEAKRT_HD F as_float(U x) { return (F)x; }
  LEAKRT_HD U as_bits(F x) { return (U)x; }
  LEAKRT_HD F to_float(I x) { return __builtin_convertvector(x, F); }
  LEAKRT_HD I truncate(F x) { return __builtin_convertvector(x, I); }
  LEAKRT_HD I as_signed(U x) { return (I)x; }
  LEAKRT_HD U as_unsigned(I x) { return (U)x; }
  LEAKRT_HD W broadcast(std::uint32_t x) { return W{} + x; }

  // Takes lanes 0, 2, 4 ... from `even` and lanes 1, 3, 5 ... from `odd`.
  LEAKRT_HD U interleave(W even, W odd) { return (U)((even & 0xFFFFFFFFu) | (odd << 32)); }

  // Returns first, first + 2 ...
  LEAKRT_HD W every_other(std::uint32_t first) {
    W steps = {};
    for (int i = 0; i < kLanes / 2; ++i) steps[i] = 2u * static_cast<std::uint32_t>(i);
    return broadcast(first) + steps;
  }

#if defined(__SSE2__)
#if defined(__AVX512F__)
  using Integer = __m512i;
#elif defined(__AVX2__)
  using Integer = __m256i;
#else
  using Integer = __m128i;
#endif

  LEAKRT_HD W multiply(W a, W b) { return (W)LEAKRT_X86(mul_epu32)((Integer)a, (Integer)b); }
  LEAKRT_HD F square_root(F x) { return (F)LEAKRT_X86(sqrt_ps)(x); }

  // out[4 i + k] = n_k[i]: a 4 x 4 transposition within each 128 bits.
  LEAKRT_HD void store_interleaved(F n0, F n1, F n2, F n3, float* out) {
    const F low01 = LEAKRT_X86(unpacklo_ps)(n0, n1), high01 = LEAKRT_X86(unpackhi_ps)(n0, n1);
    const F low23 = LEAKRT_X86(unpacklo_ps)(n2, n3), high23 = LEAKRT_X86(unpackhi_ps)(n2, n3);
    const F rows[4] = {LEAKRT_X86(shuffle_ps)(low01, low23, 0x44), LEAKRT_X86(shuffle_ps)(low01, low23, 0xEE),
                       LEAKRT_X86(shuffle_ps)(high01, high23, 0x44),
                       LEAKRT_X86(shuffle_ps)(high01, high23, 0xEE)};
    for (int part = 0; part < kLanes / 4; ++part)
      for (int row = 0; row < 4; ++row)
        __builtin_memcpy(out + 16 * part + 4 * row, reinterpret_cast<const float*>(&rows[row]) + 4 * part,
                         16);
  }
#elif defined(__aarch64__)
  LEAKRT_HD W multiply(W a, W b) { return (W)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b)); }
  LEAKRT_HD F square_root(F x) { return (F)vsqrtq_f32((float32x4_t)x); }
  LEAKRT_HD void store_interleaved(F n0, F n1, F n2, F n3, float* out) {
    // A named variable: if vst4q_f32 is a macro, commas in braces would split its arguments.
    const float32x4x4_t rows = {{(float32x4_t)n0, (float32x4_t)n1, (float32x4_t)n2, (float32x4_t)n3}};
    vst4q_f32(out, rows);
  }
#else
  LEAKRT_HD W multiply(W a, W b) { return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu); }
  LEAKRT_HD F square_root(F x) {
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
  }
  LEAKRT_HD void store_interleaved(F n0, F n1, F n2, F n3, float* out) {
    for (int i = 0; i < kLanes; ++i) {
      out[4 * i] = n0[i];
      out[4 * i + 1] = n1[i];
      out[4 * i + 2] = n2[i];
      out[4 * i + 3] = n3[i];
    }
  }
#endif
};

}  // namespace
}  // namespace leakrt
