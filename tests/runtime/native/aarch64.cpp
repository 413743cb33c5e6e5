// The inner loops under names that an emulator can call, for 64-bit Arm without an operating system below.
#include "kernels.hpp"
#include "philox.hpp"

namespace leakrt::baseline {
extern const Kernels table;
}

using leakrt::baseline::table;

extern "C" {

void normals(std::uint64_t seed, std::uint32_t step, std::uint32_t draw, std::uint32_t sample,
             std::uint32_t block, std::size_t n, float* out) {
  table.normals({seed, step, draw, sample}, block, n, out);
}

void noise_fresh(std::uint64_t seed, std::uint32_t sample, const float* z, const float* pair, std::size_t n,
                 float* out) {
  table.noise_fresh({seed, 0, 0, sample}, 0, z, pair[0], pair[1], n, out);
}

void noise(const float* z, const float* eps, const float* pair, std::size_t n, float* out) {
  table.noise(z, eps, pair[0], pair[1], n, out);
}

void blend_rows(const std::uint8_t* pixels, std::ptrdiff_t stride, const float* weights, std::size_t rows,
                std::size_t n, float* out) {
  table.blend_rows(pixels, stride, weights, rows, n, out);
}

void blend_columns(const float* row, const std::int32_t* first, const std::int32_t* taps,
                   const float* weights, std::size_t weight_stride, std::size_t size, std::size_t plane,
                   float* out) {
  table.blend_columns(row, first, taps, weights, weight_stride, size, plane, out);
}

void convert_row(const std::uint8_t* row, std::size_t size, std::size_t plane, float* out) {
  table.convert_row(row, size, plane, out);
}

void scaled_distances(const float* x, const float* support, std::size_t n, std::size_t dimension,
                      const double* scale, double* out) {
  table.scaled_distances(x, support, n, dimension, *scale, out);
}

// What compilers call without being asked.
void* memcpy(void* to, const void* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
  return to;
}

void* memset(void* to, int value, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) static_cast<char*>(to)[i] = static_cast<char>(value);
  return to;
}
}
