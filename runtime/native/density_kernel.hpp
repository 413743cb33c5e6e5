// Log-density on the device: out[b] = log of the mean over the support of N(x_b; support_n, bandwidth^2 I),
// like core/density.py, in float64.
//
// Two launches. DensityKernel: a block reduces 128 support points for one x to (largest exponent, sum of exp
// relative to it). DensityMergeKernel: one block per x merges these. Sums run over fixed trees, so the result
// of an x does not depend on its batch.
#pragma once

#include <cmath>

#include "grid.hpp"

namespace leakrt {

constexpr std::uint32_t kPoints = 128;  // support points per block
constexpr int kHalvings = 7;            // 2^7 = kPoints

// The logarithm of a sum of exponentials is peak + log(sum). NaN in any part propagates.
struct LogSumParts {
  double peak, sum;
};

LEAKRT_HD double minus_infinity() { return -static_cast<double>(INFINITY); }

LEAKRT_HD LogSumParts merge(const LogSumParts& a, const LogSumParts& b) {
  const double peak = a.peak >= b.peak || a.peak != a.peak ? a.peak : b.peak;
  if (peak == minus_infinity()) return {peak, a.sum + b.sum};  // both empty, or NaN in a sum
  return {peak, a.sum * exp(a.peak - peak) + b.sum * exp(b.peak - peak)};
}

struct DensityParams {
  const float* x;        // [batch, dimension]
  const float* support;  // [points, dimension]
  LogSumParts* parts;    // [batch, blocks]
  double scale;          // -1 / (2 bandwidth^2)
  std::uint32_t batch, points, dimension, blocks;
};

// One reduction step over `parts` [kPoints] in shared memory: thread t merges the part kPoints / 2^halving
// further on.
LEAKRT_HD void halve(LogSumParts* parts, std::uint32_t thread, int halving) {
  const std::uint32_t stride = kPoints >> halving;
  if (thread < stride) parts[thread] = merge(parts[thread], parts[thread + stride]);
}

// Grid: x support blocks, y batch. Shared: LogSumParts [kPoints].
struct DensityKernel {
  using Params = DensityParams;
  static constexpr std::uint32_t kThreads = kPoints;
  static constexpr int kPhases = kHalvings + 2;

  LEAKRT_HD void run(const Params& p, const Place& place, int phase, void* shared) {
    LogSumParts* parts = static_cast<LogSumParts*>(shared);
    if (phase == 0) {
      const std::uint32_t point = place.block * kPoints + place.thread;
      parts[place.thread] = {minus_infinity(), 0.0};
      if (point < p.points) parts[place.thread] = {exponent(p, place.row, point), 1.0};
    } else if (phase <= kHalvings) {
      halve(parts, place.thread, phase);
    } else if (place.thread == 0) {
      LogSumParts* to = p.parts + std::size_t{place.row} * p.blocks + place.block;
      write(&to->peak, parts[0].peak);
      write(&to->sum, parts[0].sum);
    }
  }

  template <class Visit>
  static void buffers(const Params& p, Visit&& visit) {
    visit(p.x, std::size_t{p.batch} * p.dimension * sizeof(float), false);
    visit(p.support, std::size_t{p.points} * p.dimension * sizeof(float), false);
    visit(p.parts, std::size_t{p.batch} * p.blocks * sizeof(LogSumParts), true);
  }

 private:
  LEAKRT_HD double exponent(const Params& p, std::uint32_t row, std::uint32_t point) {
    const float* x = p.x + std::size_t{row} * p.dimension;
    const float* y = p.support + std::size_t{point} * p.dimension;
    double sum = 0.0;
    LEAKRT_UNROLL_4
    for (std::uint32_t d = 0; d < p.dimension; ++d) {
      const double difference = static_cast<double>(read(x + d)) - static_cast<double>(read(y + d));
      sum = sum + difference * difference;
    }
    return p.scale * sum;
  }
};

struct DensityMergeParams {
  const LogSumParts* parts;  // [batch, blocks]
  double* out;               // [batch]
  double norm;               // log(points) + dimension (log sqrt(2 pi) + log bandwidth)
  std::uint32_t batch, blocks;
};

// Grid: y batch. Shared: LogSumParts [kPoints].
struct DensityMergeKernel {
  using Params = DensityMergeParams;
  static constexpr std::uint32_t kThreads = kPoints;
  static constexpr int kPhases = kHalvings + 2;

  LEAKRT_HD void run(const Params& p, const Place& place, int phase, void* shared) {
    LogSumParts* parts = static_cast<LogSumParts*>(shared);
    if (phase == 0) {
      LogSumParts total{minus_infinity(), 0.0};
      for (std::uint32_t i = place.thread; i < p.blocks; i += kPoints) {
        const LogSumParts* from = p.parts + std::size_t{place.row} * p.blocks + i;
        total = merge(total, {read(&from->peak), read(&from->sum)});
      }
      parts[place.thread] = total;
    } else if (phase <= kHalvings) {
      halve(parts, place.thread, phase);
    } else if (place.thread == 0) {
      write(p.out + place.row, parts[0].peak + log(parts[0].sum) - p.norm);
    }
  }

  template <class Visit>
  static void buffers(const Params& p, Visit&& visit) {
    visit(p.parts, std::size_t{p.batch} * p.blocks * sizeof(LogSumParts), false);
    visit(p.out, std::size_t{p.batch} * sizeof(double), true);
  }
};

}  // namespace leakrt
