// Compiled once per instruction set, which LEAKRT_SIMD_LEVEL names. Must not include headers with inline
// functions that the linker could merge across instruction sets.
#include "kernels.hpp"

#include "lanes.hpp"
#include "philox.hpp"

#define LEAKRT_RESTRICT __restrict__

namespace leakrt::LEAKRT_SIMD_LEVEL {
namespace {

// Elements drawn at once: four per lane.
constexpr int kBatch = 4 * Vector::kLanes;

// Computes the normals of elements 4 block to 4 block + kBatch - 1.
LEAKRT_HD void normal_batch(const NoiseStream& stream, std::uint32_t block, float* out) {
  Vector::W even[4] = {Vector::every_other(block), Vector::broadcast(stream.step),
                       Vector::broadcast(stream.draw), Vector::broadcast(stream.sample)};
  Vector::W odd[4] = {Vector::every_other(block + 1), even[1], even[2], even[3]};
  philox4x32<Vector>(even, stream.seed);
  philox4x32<Vector>(odd, stream.seed);
  Vector::U x[4];
  for (int k = 0; k < 4; ++k) x[k] = Vector::interleave(even[k], odd[k]);
  Vector::F n[4];
  box_muller<Vector>(x[0], x[1], n[0], n[1]);
  box_muller<Vector>(x[2], x[3], n[2], n[3]);
  Vector::store_interleaved(n[0], n[1], n[2], n[3], out);
}

void philox_words(const std::uint32_t* counter, std::size_t n, std::uint64_t seed, std::uint32_t* out) {
  for (std::size_t i = 0; i < 4 * n; i += 4) {
    Scalar::W c[4] = {counter[i], counter[i + 1], counter[i + 2], counter[i + 3]};
    philox4x32<Scalar>(c, seed);
    for (std::size_t k = 0; k < 4; ++k) out[i + k] = static_cast<std::uint32_t>(c[k]);
  }
}

void normals(const NoiseStream& stream, std::uint32_t block, std::size_t n, float* LEAKRT_RESTRICT out) {
  const NoiseStream local = stream;
  std::size_t i = 0;
  for (; i + kBatch <= n; i += kBatch, block += Vector::kLanes) normal_batch(local, block, out + i);
  if (i == n) return;
  float last[kBatch];
  normal_batch(local, block, last);
  for (std::size_t j = 0; i + j < n; ++j) out[i + j] = last[j];
}

void noise(const float* LEAKRT_RESTRICT z, const float* LEAKRT_RESTRICT eps, float a, float s, std::size_t n,
           float* LEAKRT_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = a * z[i] + s * eps[i];
}

void noise_fresh(const NoiseStream& stream, std::uint32_t block, const float* z, float a, float s,
                 std::size_t n, float* out) {
  constexpr std::size_t kHeld = 512;  // fits in the L1 cache
  alignas(64) float eps[kHeld];
  for (std::size_t i = 0; i < n; i += kHeld) {
    const std::size_t count = n - i < kHeld ? n - i : kHeld;
    normals(stream, block + static_cast<std::uint32_t>(i / 4), count, eps);
    noise(z + i, eps, a, s, count, out + i);
  }
}

void blend_rows(const std::uint8_t* LEAKRT_RESTRICT pixels, std::ptrdiff_t stride,
                const float* LEAKRT_RESTRICT weights, std::size_t rows, std::size_t n,
                float* LEAKRT_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = weights[0] * static_cast<float>(pixels[i]);
  std::size_t r = 1;
  // Add four rows per pass, in the same order, to read and write `out` less often.
  for (; r + 4 <= rows; r += 4) {
    const std::uint8_t* p0 = pixels + static_cast<std::ptrdiff_t>(r) * stride;
    const std::uint8_t *p1 = p0 + stride, *p2 = p1 + stride, *p3 = p2 + stride;
    const float w0 = weights[r], w1 = weights[r + 1], w2 = weights[r + 2], w3 = weights[r + 3];
    for (std::size_t i = 0; i < n; ++i)
      out[i] = (((out[i] + w0 * static_cast<float>(p0[i])) + w1 * static_cast<float>(p1[i])) +
                w2 * static_cast<float>(p2[i])) +
               w3 * static_cast<float>(p3[i]);
  }
  for (; r < rows; ++r) {
    const std::uint8_t* row = pixels + static_cast<std::ptrdiff_t>(r) * stride;
    for (std::size_t i = 0; i < n; ++i) out[i] += weights[r] * static_cast<float>(row[i]);
  }
}

void blend_columns(const float* LEAKRT_RESTRICT row, const std::int32_t* LEAKRT_RESTRICT first,
                   const std::int32_t* LEAKRT_RESTRICT taps, const float* LEAKRT_RESTRICT weights,
                   std::size_t weight_stride, std::size_t size, std::size_t plane,
                   float* LEAKRT_RESTRICT out) {
  typedef float Pixel
      __attribute__((vector_size(16)));  // B, G, R; the fourth lane, the next pixel's blue, is ignored
  constexpr std::size_t kHeld = 64;
  float held[4 * kHeld];
  for (std::size_t begin = 0; begin < size; begin += kHeld) {
    const std::size_t count = size - begin < kHeld ? size - begin : kHeld;
    for (std::size_t i = 0; i < count; ++i) {
      const float* source = row + 3 * static_cast<std::ptrdiff_t>(first[begin + i]);
      const float* w = weights + (begin + i) * weight_stride;
      Pixel sum = {};
      for (std::int32_t k = 0; k < taps[begin + i]; ++k, source += 3) {
        Pixel pixel;
        __builtin_memcpy(&pixel, source, sizeof pixel);
        sum += pixel * w[k];
      }
      __builtin_memcpy(held + 4 * i, &sum, sizeof sum);
    }
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t i = 0; i < count; ++i)
        out[c * plane + begin + i] = held[4 * i + 2 - c] / 127.5f - 1.0f;
  }
}

void convert_row(const std::uint8_t* LEAKRT_RESTRICT row, std::size_t size, std::size_t plane,
                 float* LEAKRT_RESTRICT out) {
  // 1 / 127.5 is split in two: a byte times the first part is exact, so the sum equals x / 127.5 bit for bit.
  constexpr float kHigh = 0x1.01p-7f, kLow = 0x1.010102p-23f;
  constexpr std::size_t kHeld = 256;  // pixels split into planes at once: the conversion then vectorises
  std::uint8_t parted[3][kHeld];
  for (std::size_t begin = 0; begin < size; begin += kHeld) {
    const std::size_t count = size - begin < kHeld ? size - begin : kHeld;
    const std::uint8_t* pixels = row + 3 * begin;
    for (std::size_t x = 0; x < count; ++x)
      for (std::size_t c = 0; c < 3; ++c) parted[c][x] = pixels[3 * x + 2 - c];
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t x = 0; x < count; ++x) {
        const float value = static_cast<float>(parted[c][x]);
        out[c * plane + begin + x] = (value * kHigh + value * kLow) - 1.0f;
      }
  }
}

// Uses eight partial sums on every vector unit, so that all give the same result.
void scaled_distances(const float* LEAKRT_RESTRICT x, const float* LEAKRT_RESTRICT support, std::size_t n,
                      std::size_t dimension, double scale, double* LEAKRT_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) {
    const float* LEAKRT_RESTRICT y = support + i * dimension;
    double sum[8] = {};
    std::size_t d = 0;
    for (; d + 8 <= dimension; d += 8)
      for (std::size_t k = 0; k < 8; ++k) {
        const double difference = static_cast<double>(x[d + k]) - static_cast<double>(y[d + k]);
        sum[k] += difference * difference;
      }
    for (std::size_t k = 0; d + k < dimension; ++k) {
      const double difference = static_cast<double>(x[d + k]) - static_cast<double>(y[d + k]);
      sum[k] += difference * difference;
    }
    out[i] = scale * (((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7])));
  }
}

#define LEAKRT_TEXT_OF(x) #x
#define LEAKRT_TEXT(x) LEAKRT_TEXT_OF(x)

}  // namespace

extern const Kernels table;
const Kernels table = {LEAKRT_TEXT(LEAKRT_SIMD_LEVEL),
                       philox_words,
                       normals,
                       noise,
                       noise_fresh,
                       blend_rows,
                       blend_columns,
                       convert_row,
                       scaled_distances};

}  // namespace leakrt::LEAKRT_SIMD_LEVEL
