// Noising on the device: every step and draw of every latent in one launch.
//
//     u[b, d, t] = c[t, 0] z0[b] + c[t, 1] eps[d, t]         latents [B, E], out [B, draws, T, E]
//
// eps is a bank [draws, T, E] that the batch shares, or is drawn in registers for each sample. Products and
// sum are rounded separately in float32, so float32 results equal those of core/noise.py bit for bit. A
// float16 result is the float32 result, rounded once.
//
// A unit is 16 bytes of the result, so that adjacent threads write adjacent memory: eight elements in
// float16, four in float32. With a bank, a thread keeps one unit of up to kTile latents in registers and
// loops over the planes (draw and step), so that the bank is read once for kTile results. If this leaves too
// few threads to fill a GPU, the planes are split over several threads.
#pragma once

#include "grid.hpp"

namespace leakrt {

constexpr std::uint32_t kMostSteps = 64;
// Elements per unit, for a result with `bytes` bytes per element.
constexpr std::uint32_t unit_of(std::size_t bytes) { return static_cast<std::uint32_t>(16 / bytes); }

// Returns the number of elements in a unit of a row: N, or fewer in the last one.
template <std::uint32_t N>
LEAKRT_HD std::uint32_t unit_count(std::uint64_t elements, std::uint32_t unit) {
  return static_cast<std::uint32_t>(smaller<std::uint64_t>(N, elements - std::uint64_t{N} * unit));
}

template <std::uint32_t N>
LEAKRT_HD void read_whole(const float* from, float (&v)[N]) {
  LEAKRT_UNROLL
  for (std::uint32_t i = 0; i < N; i += 4) {
    const Words a = read16(from + i);
    for (int j = 0; j < 4; ++j) v[i + j] = Scalar::as_float(a.w[j]);
  }
}

LEAKRT_HD void split_halves(std::uint32_t word, float& low, float& high) {
  low = to_float(Half{static_cast<std::uint16_t>(word)});
  high = to_float(Half{static_cast<std::uint16_t>(word >> 16)});
}

LEAKRT_HD void read_whole(const Half* from, float (&v)[8]) {
  const Words a = read16(from);
  for (int i = 0; i < 4; ++i) split_halves(a.w[i], v[2 * i], v[2 * i + 1]);
}

LEAKRT_HD void read_whole(const Half* from, float (&v)[4]) {
  const WordPair a = read8(from);
  for (int i = 0; i < 2; ++i) split_halves(a.w[i], v[2 * i], v[2 * i + 1]);
}

LEAKRT_HD void write_whole(float* to, const float (&v)[4]) {
  Words a;
  for (int i = 0; i < 4; ++i) a.w[i] = Scalar::as_bits(v[i]);
  write16(to, a);
}

LEAKRT_HD void write_whole(Half* to, const float (&v)[8]) {
  Words a;
  for (int i = 0; i < 4; ++i)
    a.w[i] = to_half(v[2 * i]).bits | static_cast<std::uint32_t>(to_half(v[2 * i + 1]).bits) << 16;
  write16(to, a);
}

// kWhole: the caller guarantees that every unit is complete and aligned. Otherwise this is checked per unit,
// and incomplete or unaligned units are accessed element by element.
template <bool kWhole, class T, std::uint32_t N>
LEAKRT_HD void read_unit(const T* from, std::uint32_t count, float (&v)[N]) {
  if constexpr (kWhole) {
    read_whole(from, v);
  } else if (count == N && is_aligned(from, smaller<std::size_t>(16, N * sizeof(T)))) {
    read_whole(from, v);
  } else {
    LEAKRT_UNROLL
    for (std::uint32_t i = 0; i < N; ++i) v[i] = i < count ? to_float(read(from + i)) : 0.0f;
  }
}

template <bool kWhole, class T, std::uint32_t N>
LEAKRT_HD void write_unit(T* to, std::uint32_t count, const float (&v)[N]) {
  if constexpr (kWhole) {
    write_whole(to, v);
  } else if (count == N && is_aligned(to, 16)) {
    write_whole(to, v);
  } else {
    LEAKRT_UNROLL
    for (std::uint32_t i = 0; i < N; ++i)
      if (i < count) write_float(to + i, v[i]);
  }
}

// Draws the normals of one unit of one plane.
template <std::uint32_t N>
LEAKRT_HD void draw_unit(const NoiseStream& stream, std::uint32_t unit, float (&v)[N]) {
  LEAKRT_UNROLL
  for (std::uint32_t i = 0; i < N; i += 4) {
    float four[4];
    four_normals(stream, unit * (N / 4) + i / 4, four);
    for (int j = 0; j < 4; ++j) v[i + j] = four[j];
  }
}

struct NoiseParams {
  const void* latents;           // [batch, elements]
  const float* bank;             // [draws, steps, elements]; unused for fresh noise
  const std::uint32_t* samples;  // [batch]; unused with a bank
  void* out;                     // [batch, draws, steps, elements]
  std::uint64_t seed, elements;
  std::uint32_t batch, draws, steps;
  std::uint32_t units;        // per latent
  std::uint32_t planes_each;  // planes per thread
  std::uint32_t groups;       // groups of planes
  std::uint32_t tile;         // latents per thread, at most kTile
  float coefficients[2 * kMostSteps];
};

template <class Z, class U, bool kFresh, bool kWhole>
struct NoiseKernel {
  using Params = NoiseParams;
  static constexpr std::uint32_t kThreads = 128;
  static constexpr int kPhases = 1;
  static constexpr std::uint32_t kTile = kFresh ? 1 : 4;
  static constexpr std::uint32_t kUnit = unit_of(sizeof(U));

  LEAKRT_HD void run(const Params& p, const Place& place, int, void*) {
    const std::uint32_t index = place.block * kThreads + place.thread;
    const std::uint32_t unit = index % p.units, rest = index / p.units;
    const std::uint32_t group = rest % p.groups;
    const std::uint64_t first = std::uint64_t{rest / p.groups} * p.tile;
    if (first >= p.batch) return;
    const std::uint32_t held = static_cast<std::uint32_t>(smaller<std::uint64_t>(p.tile, p.batch - first));
    const std::uint32_t count = kWhole ? kUnit : unit_count<kUnit>(p.elements, unit);
    const std::uint64_t offset = std::uint64_t{kUnit} * unit;

    float z[kTile][kUnit];
    LEAKRT_UNROLL
    for (std::uint32_t j = 0; j < kTile; ++j)
      if (j < held)
        read_unit<kWhole>(static_cast<const Z*>(p.latents) + (first + j) * p.elements + offset, count, z[j]);

    const std::uint32_t planes = p.draws * p.steps, begin = group * p.planes_each;
    const std::uint32_t end = smaller(planes, begin + p.planes_each);
    NoiseStream stream{p.seed, begin % p.steps, begin / p.steps, kFresh ? read(p.samples + first) : 0u};
    for (std::uint32_t plane = begin; plane < end; ++plane) {
      float eps[kUnit];
      if (kFresh)
        draw_unit(stream, unit, eps);
      else
        read_unit<kWhole>(p.bank + plane * p.elements + offset, count, eps);
      const float a = p.coefficients[2 * stream.step], s = p.coefficients[2 * stream.step + 1];
      LEAKRT_UNROLL
      for (std::uint32_t i = 0; i < kUnit; ++i) eps[i] = mul(s, eps[i]);
      LEAKRT_UNROLL
      for (std::uint32_t j = 0; j < kTile; ++j) {
        if (j >= held) continue;
        float u[kUnit];
        LEAKRT_UNROLL
        for (std::uint32_t i = 0; i < kUnit; ++i) u[i] = add(mul(a, z[j][i]), eps[i]);
        write_unit<kWhole>(static_cast<U*>(p.out) + ((first + j) * planes + plane) * p.elements + offset,
                           count, u);
      }
      if (++stream.step == p.steps) stream.step = 0, ++stream.draw;
    }
  }

  template <class Visit>
  static void buffers(const Params& p, Visit&& visit) {
    const std::size_t planes = std::size_t{p.draws} * p.steps, latents = std::size_t{p.batch} * p.elements;
    visit(p.latents, latents * sizeof(Z), false);
    if (kFresh)
      visit(p.samples, std::size_t{p.batch} * sizeof(std::uint32_t), false);
    else
      visit(p.bank, planes * p.elements * sizeof(float), false);
    visit(p.out, planes * latents * sizeof(U), true);
  }
};

// Draws the noise of one sample: out float32 [draws, steps, elements]. Each thread computes four elements.
struct NormalsParams {
  float* out;
  std::uint64_t seed, elements;
  std::uint32_t draws, steps, sample;
  std::uint32_t quads;  // per plane
};

struct NormalsKernel {
  using Params = NormalsParams;
  static constexpr std::uint32_t kThreads = 128;
  static constexpr int kPhases = 1;

  LEAKRT_HD void run(const Params& p, const Place& place, int, void*) {
    const std::uint64_t index = std::uint64_t{place.block} * kThreads + place.thread;
    const std::uint64_t plane = index / p.quads;
    const std::uint32_t quad = static_cast<std::uint32_t>(index % p.quads);
    if (plane >= std::uint64_t{p.draws} * p.steps) return;
    const NoiseStream stream{p.seed, static_cast<std::uint32_t>(plane % p.steps),
                             static_cast<std::uint32_t>(plane / p.steps), p.sample};
    float v[4];
    four_normals(stream, quad, v);
    const std::uint64_t offset = std::uint64_t{4} * quad;
    float* to = p.out + plane * p.elements + offset;
    const std::uint64_t count = smaller<std::uint64_t>(4, p.elements - offset);
    if (count == 4 && is_aligned(to, 16)) {
      Words words;
      for (int i = 0; i < 4; ++i) words.w[i] = Scalar::as_bits(v[i]);
      return write16(to, words);
    }
    LEAKRT_UNROLL
    for (std::uint64_t i = 0; i < 4; ++i)
      if (i < count) write(to + i, v[i]);
  }

  template <class Visit>
  static void buffers(const Params& p, Visit&& visit) {
    visit(p.out, std::size_t{p.draws} * p.steps * p.elements * sizeof(float), true);
  }
};

}  // namespace leakrt
