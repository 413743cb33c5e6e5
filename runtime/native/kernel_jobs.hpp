// Checks the sizes of a job, selects the kernel and its grid, and launches it. `launch` is called as
// launch.run<Kernel>(params, shape), on the device (cuda_module.cpp) or on the host (grid_module.cpp).
// Addresses refer to the memory of that launcher. Throws JobError.
#pragma once

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "density_kernel.hpp"
#include "noise_kernel.hpp"
#include "preprocess_kernel.hpp"

namespace leakrt {

struct JobError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

enum class Element { kFloat32, kFloat16 };

inline void check_size(const char* what, std::uint64_t size, std::uint64_t most) {
  if (size > most)
    throw JobError(std::string(what) + " is " + std::to_string(size) + ", and one launch takes at most " +
                   std::to_string(most));
}

struct NoiseJob {
  const void* latents;
  Element latents_type;
  const float* bank;             // null: draw fresh noise
  const std::uint32_t* samples;  // only for fresh noise
  std::uint64_t seed;
  const float* coefficients;  // host memory, [steps, 2]
  void* out;
  Element out_type;
  std::uint64_t batch, draws, steps, elements;
};

// Elements of one latent: the noise counter has 32 bits, each value for a group of four.
constexpr std::uint64_t kMostElements = std::uint64_t{4} * 0xFFFFFFFFu;

inline std::uint32_t unit_of(const NoiseJob& job) {
  return unit_of(job.out_type == Element::kFloat16 ? sizeof(Half) : sizeof(float));
}

// Number of threads that occupies the largest GPUs.
constexpr std::uint64_t kEnoughThreads = std::uint64_t{1} << 17;

template <class Z, class U, bool kFresh, class Launch>
void launch_noise(const NoiseParams& params, const LaunchShape& shape, bool whole, Launch& launch) {
  if (whole)
    launch.template run<NoiseKernel<Z, U, kFresh, true>>(params, shape);
  else
    launch.template run<NoiseKernel<Z, U, kFresh, false>>(params, shape);
}

template <bool kFresh, class Launch>
void launch_noise(const NoiseJob& job, const NoiseParams& params, const LaunchShape& shape, Launch& launch) {
  const bool whole = job.elements % unit_of(job) == 0 && is_aligned(job.latents, 16) &&
                     is_aligned(job.out, 16) && (kFresh || is_aligned(job.bank, 16));
  const bool half_in = job.latents_type == Element::kFloat16, half_out = job.out_type == Element::kFloat16;
  if (half_in && half_out) return launch_noise<Half, Half, kFresh>(params, shape, whole, launch);
  if (half_in) return launch_noise<Half, float, kFresh>(params, shape, whole, launch);
  if (half_out) return launch_noise<float, Half, kFresh>(params, shape, whole, launch);
  launch_noise<float, float, kFresh>(params, shape, whole, launch);
}

template <class Launch>
void noise_steps(const NoiseJob& job, Launch& launch) {
  check_size("the number of steps", job.steps, kMostSteps);
  check_size("draws", job.draws, 0xFFFFFFFFu / kMostSteps);
  check_size("the batch", job.batch, 0xFFFFFFFFu);
  check_size("elements", job.elements, kMostElements);
  if (job.batch == 0 || job.elements == 0 || job.draws == 0 || job.steps == 0) return;
  const bool fresh = job.bank == nullptr;
  const std::uint64_t units = ceil_div<std::uint64_t>(job.elements, unit_of(job)),
                      planes = job.draws * job.steps;
  const std::uint64_t most = fresh ? 1 : 4;
  const std::uint64_t tile = ceil_div(job.batch, most) * units * planes < kEnoughThreads ? 1 : most;
  const std::uint64_t rows = ceil_div(job.batch, tile) * units;
  const std::uint64_t wanted = smaller(planes, ceil_div(kEnoughThreads, rows));
  const std::uint64_t each = ceil_div(planes, wanted), groups = ceil_div(planes, each);
  check_size("batch x elements", rows * groups, 0xFFFFFFFFu - 128);

  NoiseParams p{};
  p.latents = job.latents, p.bank = job.bank, p.samples = job.samples, p.out = job.out;
  p.seed = job.seed, p.elements = job.elements;
  p.batch = static_cast<std::uint32_t>(job.batch), p.draws = static_cast<std::uint32_t>(job.draws);
  p.steps = static_cast<std::uint32_t>(job.steps), p.units = static_cast<std::uint32_t>(units);
  p.planes_each = static_cast<std::uint32_t>(each), p.groups = static_cast<std::uint32_t>(groups);
  p.tile = static_cast<std::uint32_t>(tile);
  std::memcpy(p.coefficients, job.coefficients, 2 * job.steps * sizeof(float));
  const LaunchShape shape{static_cast<std::uint32_t>(ceil_div<std::uint64_t>(rows * groups, 128)), 1, 1, 0};
  if (fresh)
    launch_noise<true>(job, p, shape, launch);
  else
    launch_noise<false>(job, p, shape, launch);
}

template <class Launch>
void fill_normals(float* out, std::uint64_t draws, std::uint64_t steps, std::uint64_t elements,
                  std::uint64_t seed, std::uint32_t sample, Launch& launch) {
  check_size("draws", draws, 0xFFFFFFFFu);
  check_size("the number of steps", steps, 0xFFFFFFFFu);
  check_size("elements", elements, kMostElements);
  if (draws == 0 || steps == 0 || elements == 0) return;
  const std::uint64_t quads = ceil_div<std::uint64_t>(elements, 4);
  const std::uint64_t blocks = ceil_div<std::uint64_t>(draws * steps * quads, NormalsKernel::kThreads);
  check_size("draws x steps x elements / 512", blocks, kMostBlocks);
  launch.template run<NormalsKernel>(
      NormalsParams{out, seed, elements, static_cast<std::uint32_t>(draws), static_cast<std::uint32_t>(steps),
                    sample, static_cast<std::uint32_t>(quads)},
      LaunchShape{static_cast<std::uint32_t>(blocks), 1, 1, 0});
}

struct FrameJob {
  const std::uint8_t* pixels;
  std::int64_t height, width, row_stride;
};

// Bytes; below the 48 KiB of shared memory that a block may use without opting in.
constexpr std::size_t kMostShared = 40 << 10;

inline Axis plan_axis(std::int64_t length, std::int64_t shorter, std::int64_t size) {
  const std::int64_t resized = length == shorter ? size : size * length / shorter;
  const std::int64_t twice = resized - size, half = twice / 2;
  return {length, resized, half + (twice % 2 == 1 && half % 2 == 1 ? 1 : 0)};  // round half to even
}

inline FrameParams plan_frame(const FrameJob& job, std::int64_t size) {
  if (job.height < 1 || job.width < 1)
    throw JobError("a frame of " + std::to_string(job.height) + " x " + std::to_string(job.width) +
                   " has no pixel");
  check_size("a side of a frame", static_cast<std::uint64_t>(larger(job.height, job.width)), kLongestSide);
  const std::int64_t shorter = smaller(job.height, job.width);
  return {job.pixels, job.row_stride, plan_axis(job.height, shorter, size),
          plan_axis(job.width, shorter, size)};
}

// Returns the maximum number of taps of any output of the axis.
inline std::int64_t most_taps(const Axis& axis) {
  return smaller(axis.length, 2 * larger(axis.length, axis.resized) / axis.resized + 2);
}

// Returns the bytes of shared memory of a block that computes `columns` pixels.
inline std::size_t shared_for(const PreprocessParams& p, std::uint32_t columns) {
  std::int64_t most = 0;
  for (std::uint32_t i = 0; i < p.frames; ++i)
    for (std::uint32_t first = 0; first < p.size; first += columns) {
      const std::uint32_t last = smaller(first + columns, p.size) - 1;
      most = larger(most, taps_of(p.frame[i].columns, last).end - taps_of(p.frame[i].columns, first).begin);
    }
  return (p.row_taps + 3 * static_cast<std::size_t>(most)) * sizeof(float);
}

template <class Launch>
void preprocess(const std::vector<FrameJob>& frames, std::uint64_t size, void* out, Element out_type,
                Launch& launch) {
  if (size == 0) throw JobError("an image size of 0");
  check_size("the image size", size, 1 << 14);
  const std::size_t bytes = (out_type == Element::kFloat16 ? 2 : 4) * 3 * size * size;
  for (std::size_t begin = 0; begin < frames.size(); begin += kMostFrames) {
    PreprocessParams p{};
    p.out = static_cast<char*>(out) + begin * bytes;
    p.size = static_cast<std::uint32_t>(size);
    p.frames = static_cast<std::uint32_t>(smaller<std::size_t>(kMostFrames, frames.size() - begin));
    std::int64_t row_taps = 0;
    for (std::uint32_t i = 0; i < p.frames; ++i) {
      p.frame[i] = plan_frame(frames[begin + i], static_cast<std::int64_t>(size));
      row_taps = larger(row_taps, most_taps(p.frame[i].rows));
    }
    p.row_taps = static_cast<std::uint32_t>(row_taps);
    p.columns = smaller(kMostColumns, p.size);
    std::size_t shared = shared_for(p, p.columns);
    while (shared > kMostShared && p.columns > 1) shared = shared_for(p, p.columns /= 2);
    if (shared > kMostShared)
      throw JobError("a frame is too large to be resized to " + std::to_string(size) + " pixels in one step");
    const LaunchShape shape{ceil_div(p.size, p.columns), p.size, p.frames, shared};
    if (out_type == Element::kFloat16)
      launch.template run<PreprocessKernel<Half>>(p, shape);
    else
      launch.template run<PreprocessKernel<float>>(p, shape);
  }
}

// Returns the bytes of device memory for the `workspace` of kde_log_density.
inline std::size_t density_workspace(std::uint64_t batch, std::uint64_t points) {
  return batch * ceil_div<std::uint64_t>(points, kPoints) * sizeof(LogSumParts);
}

template <class Launch>
void kde_log_density(const float* x, std::uint64_t batch, const float* support, std::uint64_t points,
                     std::uint64_t dimension, double bandwidth, void* workspace, double* out,
                     Launch& launch) {
  check_size("the batch", batch, kMostRows);
  check_size("the number of points", points, 0x7FFFFFFFu);
  check_size("the dimension", dimension, 0x7FFFFFFFu);
  const double scale = -0.5 / (bandwidth * bandwidth);
  if (points == 0 || dimension == 0) throw JobError("the support is empty; at least one point is needed");
  if (!(bandwidth > 0.0) || !std::isfinite(scale) || scale == 0.0)
    throw JobError("bandwidth is " + std::to_string(bandwidth) + "; a positive, finite number is needed");
  if (batch == 0) return;
  const auto rows = static_cast<std::uint32_t>(batch);
  const auto blocks = static_cast<std::uint32_t>(ceil_div<std::uint64_t>(points, kPoints));
  auto* parts = static_cast<LogSumParts*>(workspace);
  const std::size_t shared = kPoints * sizeof(LogSumParts);
  launch.template run<DensityKernel>(
      DensityParams{x, support, parts, scale, rows, static_cast<std::uint32_t>(points),
                    static_cast<std::uint32_t>(dimension), blocks},
      LaunchShape{blocks, rows, 1, shared});
  const double norm = std::log(static_cast<double>(points)) +
                      static_cast<double>(dimension) * (0.9189385332046727418 + std::log(bandwidth));
  launch.template run<DensityMergeKernel>(DensityMergeParams{parts, out, norm, rows, blocks},
                                          LaunchShape{1, rows, 1, shared});
}

}  // namespace leakrt
