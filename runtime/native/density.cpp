#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.hpp"
#include "operations.hpp"
#include "parallel.hpp"

namespace leakrt {
namespace {

// kChunk: exponents per chunk. kGrain: products that take about as long as starting a thread.
constexpr std::size_t kChunk = 512, kGrain = std::size_t{1} << 18;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Smaller exponents, relative to the largest, are skipped. exp(-50) is 2e-22: it takes a million such terms
// to change the last bit of the sum. Most points are that far away, and exp is expensive.
constexpr double kNothing = -50.0;

// Accumulates log(sum of exp) in the order of the additions.
class LogSum {
 public:
  void add(const double* exponents, std::size_t n) {
    double peak = peak_;
    for (std::size_t i = 0; i < n; ++i) peak = std::max(peak, exponents[i]);
    if (peak == -kInfinity) return add_nan(exponents, n);
    double sum = peak_ == -kInfinity ? sum_ : sum_ * std::exp(peak_ - peak);
    double near[kChunk];
    std::size_t count = 0;
    for (std::size_t i = 0; i < n; ++i) {
      near[count] = exponents[i] - peak;
      count += near[count] < kNothing ? 0 : 1;  // keeps NaN: it must propagate to the result
    }
    for (std::size_t i = 0; i < count; ++i) sum += std::exp(near[i]);
    peak_ = peak;
    sum_ = sum;
  }

  double value() const { return peak_ + std::log(sum_); }

 private:
  // Every exponent is -inf, which adds nothing, or NaN, which std::max skips but the result must show.
  void add_nan(const double* exponents, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i)
      if (std::isnan(exponents[i])) sum_ = exponents[i];
  }

  double peak_ = -kInfinity, sum_ = 0.0;
};

}  // namespace

void kde_log_density(const float* x, std::size_t batch, const float* support, std::size_t n,
                     std::size_t dimension, double bandwidth, double* out, int threads) {
  const Kernels& run = kernels();
  const double scale = -0.5 / (bandwidth * bandwidth);
  const double norm = std::log(static_cast<double>(n)) +
                      static_cast<double>(dimension) * (0.9189385332046727418 + std::log(bandwidth));
  parallel_for(batch, thread_count(threads, batch * n * dimension, kGrain), [&](std::size_t b, std::size_t) {
    double exponents[kChunk];
    LogSum total;
    for (std::size_t begin = 0; begin < n; begin += kChunk) {
      const std::size_t count = std::min(kChunk, n - begin);
      run.scaled_distances(x + b * dimension, support + begin * dimension, count, dimension, scale,
                           exponents);
      total.add(exponents, count);
    }
    out[b] = total.value() - norm;
  });
}

}  // namespace leakrt
