#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels.hpp"
#include "operations.hpp"
#include "parallel.hpp"

namespace leakrt {
namespace {

// Input bytes whose processing takes about as long as starting a thread.
constexpr std::size_t kGrain = std::size_t{1} << 19;

// The triangle filter of one axis, for the output indices inside the crop.
struct Filter {
  std::vector<std::int32_t> first, taps;  // [size]: index of the first tap and number of taps
  std::vector<float> weights;             // [size, stride]
  std::size_t stride = 0;
};

// Returns the filter that resizes `length` to `resized`, for the `size` outputs from `origin` on. Antialiased
// bilinear: a triangle with a half width of max(1, length / resized) input pixels, clipped at the border and
// normalised to sum to one.
Filter make_filter(std::size_t length, std::size_t resized, std::size_t origin, std::size_t size) {
  const double scale = static_cast<double>(length) / static_cast<double>(resized),
               half = std::max(1.0, scale);
  Filter filter;
  filter.stride = std::min(length, static_cast<std::size_t>(2.0 * half) + 2);
  filter.first.resize(size);
  filter.taps.resize(size);
  filter.weights.resize(size * filter.stride);
  std::vector<double> row(filter.stride);
  for (std::size_t i = 0; i < size; ++i) {
    const double centre = scale * (static_cast<double>(origin + i) + 0.5);
    const std::size_t low = static_cast<std::size_t>(std::max(0.0, centre - half + 0.5));
    const std::size_t high =
        std::min({length, static_cast<std::size_t>(centre + half + 0.5), low + filter.stride});
    double sum = 0.0;
    for (std::size_t k = low; k < high; ++k) {
      row[k - low] = std::max(0.0, 1.0 - std::abs((static_cast<double>(k) + 0.5 - centre) / half));
      sum += row[k - low];
    }
    for (std::size_t k = low; k < high; ++k)
      filter.weights[i * filter.stride + k - low] = static_cast<float>(row[k - low] / sum);
    filter.first[i] = static_cast<std::int32_t>(low);
    filter.taps[i] = static_cast<std::int32_t>(high - low);
  }
  return filter;
}

// Returns (resized - size) / 2, rounded half to even.
std::size_t crop_origin(std::size_t resized, std::size_t size) {
  const std::size_t twice = resized - size, half = twice / 2;
  return half + (twice % 2 == 1 && half % 2 == 1 ? 1 : 0);
}

void crop(const Frame& frame, std::size_t size, float* out) {
  const std::size_t top = crop_origin(frame.height, size), left = crop_origin(frame.width, size);
  for (std::size_t y = 0; y < size; ++y)
    kernels().convert_row(frame.pixels + static_cast<std::ptrdiff_t>(top + y) * frame.row_stride + 3 * left,
                          size, size * size, out + y * size);
}

}  // namespace

void preprocess(const Frame& frame, std::size_t size, float* out, int threads) {
  const std::size_t shorter = std::min(frame.height, frame.width);
  if (shorter == size) return crop(frame, size, out);
  const std::size_t height = frame.height == shorter ? size : size * frame.height / shorter;
  const std::size_t width = frame.width == shorter ? size : size * frame.width / shorter;
  const Filter rows = make_filter(frame.height, height, crop_origin(height, size), size);
  Filter columns = make_filter(frame.width, width, crop_origin(width, size), size);

  // The frame's columns that the crop uses; make the filter's indices relative to the first of them.
  const std::size_t left = static_cast<std::size_t>(columns.first.front());
  const std::size_t seen = static_cast<std::size_t>(columns.first.back() + columns.taps.back()) - left;
  for (std::int32_t& first : columns.first) first -= static_cast<std::int32_t>(left);

  const Kernels& run = kernels();
  const std::size_t count = thread_count(threads, 6 * seen * std::max(size, shorter), kGrain);
  const std::size_t length =
      3 * seen + 1;  // one extra: blend_columns reads a fourth lane past the last pixel
  std::vector<float> blended(length * std::min(count, size));
  parallel_for(size, count, [&](std::size_t y, std::size_t worker) {
    float* row = blended.data() + worker * length;
    run.blend_rows(frame.pixels + static_cast<std::ptrdiff_t>(rows.first[y]) * frame.row_stride + 3 * left,
                   frame.row_stride, rows.weights.data() + y * rows.stride,
                   static_cast<std::size_t>(rows.taps[y]), 3 * seen, row);
    run.blend_columns(row, columns.first.data(), columns.taps.data(), columns.weights.data(), columns.stride,
                      size, size * size, out + y * size);
  });
}

}  // namespace leakrt
