#include <algorithm>

#include "kernels.hpp"
#include "operations.hpp"
#include "parallel.hpp"
#include "philox.hpp"

namespace leakrt {
namespace {

// Elements per task. A multiple of four, so that a task begins at a new counter; small enough for latents,
// noise and results to fit in the L1 cache.
constexpr std::size_t kChunk = 2048;

// Elements that take about as long as starting a thread: noising from a bank, and drawing normals.
constexpr std::size_t kCopyGrain = std::size_t{1} << 20, kNormalGrain = std::size_t{1} << 15;

struct Piece {
  std::size_t begin, count;  // elements of one latent
};

std::size_t pieces_of(std::size_t elements) { return (elements + kChunk - 1) / kChunk; }

Piece piece_of(std::size_t elements, std::size_t index) {
  const std::size_t begin = index * kChunk;
  return {begin, std::min(kChunk, elements - begin)};
}

}  // namespace

void philox_words(const std::uint32_t* counter, std::size_t n, std::uint64_t seed, std::uint32_t* out) {
  kernels().philox_words(counter, n, seed, out);
}

void fill_normals(const NoiseShape& shape, std::uint64_t seed, std::uint32_t sample, float* out,
                  int threads) {
  const Kernels& run = kernels();
  const std::size_t pieces = pieces_of(shape.elements), planes = shape.draws * shape.steps;
  parallel_for(planes * pieces, thread_count(threads, planes * shape.elements, kNormalGrain),
               [&](std::size_t task, std::size_t) {
                 const std::size_t plane = task / pieces;
                 const Piece piece = piece_of(shape.elements, task % pieces);
                 const NoiseStream stream{seed, static_cast<std::uint32_t>(plane % shape.steps),
                                          static_cast<std::uint32_t>(plane / shape.steps), sample};
                 run.normals(stream, static_cast<std::uint32_t>(piece.begin / 4), piece.count,
                             out + plane * shape.elements + piece.begin);
               });
}

void noise_steps(const NoiseShape& shape, const float* latents, const float* bank, const float* coefficients,
                 float* out, int threads) {
  const Kernels& run = kernels();
  const std::size_t pieces = pieces_of(shape.elements), planes = shape.draws * shape.steps;
  parallel_for(shape.batch * planes * pieces,
               thread_count(threads, shape.batch * planes * shape.elements, kCopyGrain),
               [&](std::size_t task, std::size_t) {
                 const std::size_t row = task / pieces, plane = row % planes;
                 const Piece piece = piece_of(shape.elements, task % pieces);
                 const float* c = coefficients + 2 * (plane % shape.steps);
                 run.noise(latents + row / planes * shape.elements + piece.begin,
                           bank + plane * shape.elements + piece.begin, c[0], c[1], piece.count,
                           out + row * shape.elements + piece.begin);
               });
}

void noise_steps_fresh(const NoiseShape& shape, const float* latents, const float* coefficients,
                       std::uint64_t seed, const std::uint32_t* samples, float* out, int threads) {
  const Kernels& run = kernels();
  const std::size_t pieces = pieces_of(shape.elements), planes = shape.draws * shape.steps;
  parallel_for(shape.batch * planes * pieces,
               thread_count(threads, shape.batch * planes * shape.elements, kNormalGrain),
               [&](std::size_t task, std::size_t) {
                 const std::size_t row = task / pieces, plane = row % planes, sample = row / planes;
                 const Piece piece = piece_of(shape.elements, task % pieces);
                 const std::size_t step = plane % shape.steps;
                 const NoiseStream stream{seed, static_cast<std::uint32_t>(step),
                                          static_cast<std::uint32_t>(plane / shape.steps), samples[sample]};
                 run.noise_fresh(stream, static_cast<std::uint32_t>(piece.begin / 4),
                                 latents + sample * shape.elements + piece.begin, coefficients[2 * step],
                                 coefficients[2 * step + 1], piece.count,
                                 out + row * shape.elements + piece.begin);
               });
}

}  // namespace leakrt
