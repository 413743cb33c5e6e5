// Preprocessing on the device: frames uint8 [H, W, 3] BGR of any sizes to out [B, 3, S, S], RGB in [-1, 1],
// in one launch. Antialiased bilinear resize of the short side to S, centre crop, x / 127.5 - 1, in float32
// throughout; see core/preprocess.py.
//
// A block computes up to 64 pixels of one output row. It blends the frame's rows under that row's triangle
// into shared memory and then blends the columns from there. Weights are computed on the fly. Each thread
// subtracts the whole part of the triangle's centre in integers, so the remaining distance is small and
// precise.
#pragma once

#include "grid.hpp"

namespace leakrt {

constexpr std::uint32_t kMostFrames = 32;       // per launch
constexpr std::uint32_t kMostColumns = 64;      // per block
constexpr std::int64_t kLongestSide = 1 << 20;  // of a frame; keeps length x resized within 63 bits

// Resizes `length` pixels to `resized`; the crop starts at `origin`.
struct Axis {
  std::int64_t length, resized, origin;
};

// The input pixels of one output and their position under its triangle.
struct Taps {
  std::int64_t begin, end;
  std::int64_t whole;  // whole part of the triangle's centre
  float shift;         // 1/2 - fractional part of the centre
  float steepness;     // 1 / half width

  LEAKRT_HD float weight(const Taps& taps, std::int64_t k) {
    const float distance = mul(add(static_cast<float>(k - taps.whole), taps.shift), taps.steepness);
    return larger(0.0f, add(1.0f, distance < 0.0f ? distance : -distance));
  }
};

// Returns the taps of output i of the crop: centre (i + 1/2) length / resized, half width max(1, length /
// resized).
LEAKRT_HD Taps taps_of(const Axis& axis, std::int64_t i) {
  const std::int64_t length = axis.length, resized = axis.resized, unit = 2 * resized;
  const std::int64_t centre = length * (2 * (axis.origin + i) + 1), half = larger(length, resized);
  const std::int64_t low = centre - 2 * half + resized, high = centre + 2 * half + resized;
  Taps taps;
  taps.begin = low < 0 ? 0 : low / unit;
  taps.end = smaller(length, high / unit);
  taps.whole = centre / unit;
  taps.shift = 0.5f - static_cast<float>(centre % unit) / static_cast<float>(unit);
  taps.steepness = static_cast<float>(resized) / static_cast<float>(half);
  return taps;
}

struct FrameParams {
  const std::uint8_t* pixels;
  std::int64_t row_stride;  // bytes from one row to the next; may be negative
  Axis rows, columns;
};

struct PreprocessParams {
  void* out;                    // [frames, 3, size, size]
  std::uint32_t size, columns;  // columns per block
  std::uint32_t frames;
  std::uint32_t row_taps;  // maximum taps of any output row; offset of the blended row in shared memory
  FrameParams frame[kMostFrames];
};

template <class U>
struct PreprocessKernel {
  using Params = PreprocessParams;
  static constexpr std::uint32_t kThreads = 3 * kMostColumns;
  static constexpr int kPhases = 3;

  // Grid: x segments of a row, y rows, z frames. Shared: float weights [row_taps], blended [columns seen, 3].
  LEAKRT_HD void run(const Params& p, const Place& place, int phase, void* shared) {
    const FrameParams& frame = p.frame[place.layer];
    const std::uint32_t first = place.block * p.columns, last = smaller(first + p.columns, p.size) - 1;
    const Taps rows = taps_of(frame.rows, place.row);
    const std::int64_t left = taps_of(frame.columns, first).begin;
    float *weights = static_cast<float*>(shared), *blended = weights + p.row_taps;
    if (phase == 0) return weigh_rows(rows, place.thread, weights);
    if (phase == 1) {
      const std::int64_t seen = taps_of(frame.columns, last).end - left;
      return blend_rows(frame, rows, left, static_cast<std::uint32_t>(3 * seen), place.thread, weights,
                        blended);
    }
    for (std::uint32_t item = place.thread; item < 3 * p.columns; item += kThreads) {
      const std::uint32_t channel = item / p.columns, x = first + item % p.columns;
      if (x > last) continue;
      const float value = blend_columns(taps_of(frame.columns, x), left, blended + 2 - channel);
      const std::size_t plane = std::size_t{3} * place.layer + channel;
      write_float(static_cast<U*>(p.out) + (plane * p.size + place.row) * p.size + x,
                  add(value / 127.5f, -1.0f));
    }
  }

  template <class Visit>
  static void buffers(const Params& p, Visit&& visit) {
    for (std::uint32_t i = 0; i < p.frames; ++i) {
      const FrameParams& frame = p.frame[i];
      // From the first to the last byte that any output uses: only these are copied to the device.
      const std::int64_t top = taps_of(frame.rows, 0).begin, bottom = taps_of(frame.rows, p.size - 1).end - 1;
      const std::int64_t low = smaller(top * frame.row_stride, bottom * frame.row_stride);
      const std::int64_t high = larger(top * frame.row_stride, bottom * frame.row_stride);
      const std::int64_t left = taps_of(frame.columns, 0).begin,
                         right = taps_of(frame.columns, p.size - 1).end;
      visit(frame.pixels + low + 3 * left, static_cast<std::size_t>(high - low + 3 * (right - left)), false);
    }
    visit(p.out, std::size_t{p.frames} * 3 * p.size * p.size * sizeof(U), true);
  }

 private:
  LEAKRT_HD void weigh_rows(const Taps& rows, std::uint32_t thread, float* weights) {
    for (std::int64_t k = rows.begin + thread; k < rows.end; k += kThreads)
      weights[k - rows.begin] = Taps::weight(rows, k);
  }

  LEAKRT_HD void blend_rows(const FrameParams& frame, const Taps& rows, std::int64_t left,
                            std::uint32_t bytes, std::uint32_t thread, const float* weights, float* blended) {
    const std::uint32_t taps = static_cast<std::uint32_t>(rows.end - rows.begin);
    float total = 0.0f;
    for (std::uint32_t r = 0; r < taps; ++r) total = add(total, weights[r]);
    const std::uint8_t* top = frame.pixels + rows.begin * frame.row_stride + 3 * left;
    for (std::uint32_t i = thread; i < bytes; i += kThreads) {
      const std::uint8_t* pixel = top + i;
      float sum = 0.0f;
      LEAKRT_UNROLL_4
      for (std::uint32_t r = 0; r < taps; ++r, pixel += frame.row_stride)
        sum = add(sum, mul(weights[r], static_cast<float>(read(pixel))));
      blended[i] = sum / total;
    }
  }

  LEAKRT_HD float blend_columns(const Taps& taps, std::int64_t left, const float* blended) {
    float sum = 0.0f, total = 0.0f;
    for (std::int64_t k = taps.begin; k < taps.end; ++k) {
      const float w = Taps::weight(taps, k);
      sum = add(sum, mul(w, blended[3 * (k - left)]));
      total = add(total, w);
    }
    return sum / total;
  }
};

}  // namespace leakrt
