// IEEE half precision as 16 bits, for host and device. The device uses its instructions; the host computes
// the bits, because its compiler may lack the type. Both round to nearest, ties to even.
#pragma once

#include <cstdint>

#include "philox.hpp"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace leakrt {

struct Half {
  std::uint16_t bits;
};

LEAKRT_HD float to_float(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
  if (rest >= 0x7C00u) return Scalar::as_float(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
  if (rest >= 0x0400u) return Scalar::as_float(sign | ((rest << 13) + (112u << 23)));
  const float small = static_cast<float>(rest) * 0x1p-24f;  // subnormal, and exact in float32
  return Scalar::as_float(sign | Scalar::as_bits(small));
#endif
}

LEAKRT_HD Half to_half(float x) {
#if defined(__CUDA_ARCH__)
  return Half{__half_as_ushort(__float2half_rn(x))};
#else
  const std::uint32_t bits = Scalar::as_bits(x), sign = (bits >> 16) & 0x8000u, rest = bits & 0x7FFFFFFFu;
  std::uint32_t half;
  if (rest > 0x7F800000u) {
    half = 0x7E00u;  // NaN
  } else if (rest >= 0x477FF000u) {
    half = 0x7C00u;  // from 65520 on the nearest is infinity
  } else if (rest >= 0x38800000u) {
    half = (rest - (112u << 23) + 0x0FFFu + ((rest >> 13) & 1u)) >> 13;
  } else {
    // Subnormal: adding 1/2 leaves the bits of x 2^24, rounded, at the end of the sum.
    half = Scalar::as_bits(add(Scalar::as_float(rest), 0.5f)) - 0x3F000000u;
  }
  return Half{static_cast<std::uint16_t>(sign | half)};
#endif
}

LEAKRT_HD float to_float(float x) { return x; }

LEAKRT_HD void from_float(float x, float& to) { to = x; }
LEAKRT_HD void from_float(float x, Half& to) { to = to_half(x); }

}  // namespace leakrt
