// The inner loops, compiled once per instruction set and chosen at run time.
//
// They are single-threaded and do not check arguments: the callers in noise.cpp, preprocess.cpp and
// density.cpp do. No operation is fused and every sum has a fixed order, so all instruction sets give
// identical bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace leakrt {

struct NoiseStream;

struct Kernels {
  const char* name;

  // counter and out: uint32 [n, 4].
  void (*philox_words)(const std::uint32_t* counter, std::size_t n, std::uint64_t seed, std::uint32_t* out);

  // out[i] = normal of element 4 block + i, for i < n.
  void (*normals)(const NoiseStream& stream, std::uint32_t block, std::size_t n, float* out);

  // out[i] = a z[i] + s eps[i].
  void (*noise)(const float* z, const float* eps, float a, float s, std::size_t n, float* out);

  // out[i] = a z[i] + s (normal of element 4 block + i).
  void (*noise_fresh)(const NoiseStream& stream, std::uint32_t block, const float* z, float a, float s,
                      std::size_t n, float* out);

  // out[i] = sum over r < rows of weights[r] x pixels[r x stride + i], for i < n.
  void (*blend_rows)(const std::uint8_t* pixels, std::ptrdiff_t stride, const float* weights,
                     std::size_t rows, std::size_t n, float* out);

  // For each x < size: blends the taps from first[x] on of `row` (interleaved BGR, with one readable float
  // past its end) and writes value / 127.5 - 1 to RGB planes that are `plane` floats apart.
  void (*blend_columns)(const float* row, const std::int32_t* first, const std::int32_t* taps,
                        const float* weights, std::size_t weight_stride, std::size_t size, std::size_t plane,
                        float* out);

  // Writes value / 127.5 - 1 of one row of BGR bytes to RGB planes that are `plane` floats apart.
  void (*convert_row)(const std::uint8_t* row, std::size_t size, std::size_t plane, float* out);

  // out[i] = scale x |x - support[i]|^2 in float64, for i < n; support: float32 [n, dimension].
  void (*scaled_distances)(const float* x, const float* support, std::size_t n, std::size_t dimension,
                           double scale, double* out);
};

// Returns the widest kernels that the CPU supports, or those that LEAKRT_SIMD (baseline | avx2 | avx512)
// names. Selected once. Throws SimdError (operations.hpp) if LEAKRT_SIMD is unknown or not supported by this
// CPU.
const Kernels& kernels();

}  // namespace leakrt
