// The operations of leakrt._core on raw pointers. module.cpp checks the arguments; these functions split the
// work over threads. Results are bit identical for every thread count, batch size and instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace leakrt {

struct NoiseShape {
  std::size_t batch, draws, steps, elements;  // elements of one latent, at most 4 x 2^32
};

// Computes Philox4x32-10 of each row. counter and out: uint32 [n, 4].
void philox_words(const std::uint32_t* counter, std::size_t n, std::uint64_t seed, std::uint32_t* out);

// Draws the noise of one sample. out: float32 [draws, steps, elements]. shape.batch is ignored.
void fill_normals(const NoiseShape& shape, std::uint64_t seed, std::uint32_t sample, float* out, int threads);

// latents: float32 [batch, elements]; bank: float32 [draws, steps, elements]; coefficients: float32 [steps,
// 2]; out: float32 [batch, draws, steps, elements] = c[t, 0] z0 + c[t, 1] eps.
void noise_steps(const NoiseShape& shape, const float* latents, const float* bank, const float* coefficients,
                 float* out, int threads);

// Like noise_steps, but draws the noise of sample samples[b] instead of reading a bank.
void noise_steps_fresh(const NoiseShape& shape, const float* latents, const float* coefficients,
                       std::uint64_t seed, const std::uint32_t* samples, float* out, int threads);

struct Frame {
  const std::uint8_t* pixels;  // BGR; the pixels of a row are contiguous
  std::size_t height, width;   // at least 1
  std::ptrdiff_t row_stride;   // bytes from one row to the next; may be negative
};

// Resizes the short side to `size` (antialiased bilinear) and crops the centre. out: float32 [3, size, size],
// RGB in [-1, 1]. Throws std::bad_alloc.
void preprocess(const Frame& frame, std::size_t size, float* out, int threads);

// x: float32 [batch, dimension]; support: float32 [n, dimension], n > 0; out: float64 [batch], the logarithm
// of the mean over the support of isotropic Gaussian densities of standard deviation `bandwidth`.
void kde_log_density(const float* x, std::size_t batch, const float* support, std::size_t n,
                     std::size_t dimension, double bandwidth, double* out, int threads);

// $LEAKRT_SIMD names an instruction set that is unknown or not supported by this CPU. Every function of this
// file throws it.
struct SimdError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Returns the instruction set in use: baseline, avx2 or avx512.
const char* simd();

// Returns the instruction sets that this machine supports, widest first.
std::vector<std::string> simd_levels();

}  // namespace leakrt
