// leakrt._core: checks arguments, releases the GIL and calls operations.hpp. Documented in _core.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <exception>
#include <limits>

#include "arguments.hpp"
#include "operations.hpp"

namespace leakrt {
namespace {

using nb::literals::operator""_a;

NoiseShape noise_shape(const Shape& latents, std::size_t draws, std::size_t steps) {
  const NoiseShape shape{latents[0], draws, steps, latents[1] * latents[2] * latents[3]};
  if (shape.elements / 4 > std::numeric_limits<std::uint32_t>::max())
    refuse_value("latents of " + shape_text(latents) + " are beyond the noise counter");
  return shape;
}

nb::object py_philox_words(nb::handle counter, nb::handle seed, nb::object out) {
  const Argument<const std::uint32_t> counters("counter", counter, {kAny, 4});
  const std::uint64_t key = low_bits("seed", seed);
  out = output_or_new<std::uint32_t>(out, counters.shape());
  const Argument<std::uint32_t> words("out", out, counters.shape());
  words.check_apart(counters);
  nb::gil_scoped_release unlocked;
  philox_words(counters.data(), counters.shape(0), key, words.data());
  return out;
}

void py_fill_normals(nb::handle seed, nb::handle sample, nb::handle out, int threads) {
  const Argument<float> normals("out", out);
  if (normals.shape().size() < 2) refuse_value("out has fewer axes than [draws, T]");
  normals.check_dense(0);
  std::size_t elements = 1;
  for (std::size_t i = 2; i < normals.shape().size(); ++i) elements *= normals.shape(i);
  const NoiseShape shape = noise_shape({1, elements, 1, 1}, normals.shape(0), normals.shape(1));
  const std::uint64_t key = low_bits("seed", seed);
  const auto index = static_cast<std::uint32_t>(low_bits("sample", sample));
  threads = checked_threads(threads);
  nb::gil_scoped_release unlocked;
  fill_normals(shape, key, index, normals.data(), threads);
}

nb::object py_noise_steps(nb::handle latents, nb::handle bank, nb::handle coefficients, nb::object out,
                          int threads) {
  const Argument<const float> z("latents", latents, {kAny, kAny, kAny, kAny});
  const Argument<const float> noise("bank", bank, {kAny, kAny, z.shape(1), z.shape(2), z.shape(3)});
  const Argument<const float> c("coefficients", coefficients, {noise.shape(1), 2});
  const NoiseShape shape = noise_shape(z.shape(), noise.shape(0), noise.shape(1));
  const Shape noised{shape.batch * shape.draws, shape.steps, z.shape(1), z.shape(2), z.shape(3)};
  out = output_or_new<float>(out, noised);
  const Argument<float> u("out", out, noised);
  u.check_apart(z);
  u.check_apart(noise);
  u.check_apart(c);
  threads = checked_threads(threads);
  nb::gil_scoped_release unlocked;
  noise_steps(shape, z.data(), noise.data(), c.data(), u.data(), threads);
  return out;
}

nb::object py_noise_steps_fresh(nb::handle latents, nb::handle coefficients, nb::handle seed,
                                nb::handle samples, int draws, nb::object out, int threads) {
  const Argument<const float> z("latents", latents, {kAny, kAny, kAny, kAny});
  const Argument<const float> c("coefficients", coefficients, {kAny, 2});
  const Argument<const std::uint32_t> indices("samples", samples, {z.shape(0)});
  if (draws < 1) refuse_value("draws is " + std::to_string(draws) + "; 1 or more is needed");
  const NoiseShape shape = noise_shape(z.shape(), static_cast<std::size_t>(draws), c.shape(0));
  const Shape noised{shape.batch * shape.draws, shape.steps, z.shape(1), z.shape(2), z.shape(3)};
  const std::uint64_t key = low_bits("seed", seed);
  out = output_or_new<float>(out, noised);
  const Argument<float> u("out", out, noised);
  u.check_apart(z);
  u.check_apart(c);
  u.check_apart(indices);
  threads = checked_threads(threads);
  nb::gil_scoped_release unlocked;
  noise_steps_fresh(shape, z.data(), c.data(), key, indices.data(), u.data(), threads);
  return out;
}

void py_preprocess(nb::handle frame, nb::handle out, int threads) {
  const Argument<const std::uint8_t> pixels("frame", frame);
  pixels.check_shape({kAny, kAny, 3});
  pixels.check_dense(1);
  const Argument<float> image("out", out, {3, kAny, kAny});
  const std::size_t height = pixels.shape(0), width = pixels.shape(1), size = image.shape(1);
  if (height == 0 || width == 0) refuse_value("frame has shape " + shape_text(pixels.shape()) + ": no pixel");
  if (size == 0 || image.shape(2) != size)
    refuse_value("out has shape " + shape_text(image.shape()) + "; [3, S, S] is needed, S at least 1");
  const std::ptrdiff_t stride = pixels.stride(0);
  const std::ptrdiff_t last = static_cast<std::ptrdiff_t>(height - 1) * stride;
  const std::uint8_t *first_row = pixels.data() + std::min<std::ptrdiff_t>(last, 0),
                     *last_row = pixels.data() + std::max<std::ptrdiff_t>(last, 0);
  if (image.overlaps(first_row, last_row + 3 * width)) refuse_value("out overlaps frame");
  threads = checked_threads(threads);
  nb::gil_scoped_release unlocked;
  preprocess(Frame{pixels.data(), height, width, stride}, size, image.data(), threads);
}

nb::object py_kde_log_density(nb::handle x, nb::handle support, double bandwidth, nb::object out,
                              int threads) {
  const Argument<const float> points("x", x, {kAny, kAny});
  const Argument<const float> centres("support", support, {kAny, points.shape(1)});
  if (centres.shape(0) == 0 || centres.shape(1) == 0)
    refuse_value("support has shape " + shape_text(centres.shape()) + "; at least one point is needed");
  const double scale = 0.5 / (bandwidth * bandwidth);
  if (!(bandwidth > 0.0) || !std::isfinite(scale) || scale == 0.0)
    refuse_value("bandwidth is " + std::to_string(bandwidth) + "; a positive, finite number is needed");
  out = output_or_new<double>(out, {points.shape(0)});
  const Argument<double> densities("out", out, {points.shape(0)});
  densities.check_apart(points);
  densities.check_apart(centres);
  threads = checked_threads(threads);
  nb::gil_scoped_release unlocked;
  kde_log_density(points.data(), points.shape(0), centres.data(), centres.shape(0), centres.shape(1),
                  bandwidth, densities.data(), threads);
  return out;
}

// The user sets $LEAKRT_SIMD, so an invalid value raises UsageError.
void translate_simd_error(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const SimdError& problem) {
    const nb::object type = nb::module_::import_("leakrt.core.errors").attr("UsageError");
    PyErr_SetString(type.ptr(), problem.what());
  }
}

}  // namespace
}  // namespace leakrt

NB_MODULE(_core, m) {
  using namespace leakrt;
  nb::register_exception_translator(translate_simd_error);
  // Accept None, so that the checks here report it with the argument's name.
  m.def("simd", &simd);
  m.def("simd_levels", &simd_levels);
  m.def("philox_words", &py_philox_words, "counter"_a.none(), "seed"_a.none(), "out"_a = nb::none());
  m.def("fill_normals", &py_fill_normals, "seed"_a.none(), "sample"_a.none(), "out"_a.none(),
        "threads"_a = 0);
  m.def("noise_steps", &py_noise_steps, "latents"_a.none(), "bank"_a.none(), "coefficients"_a.none(),
        "out"_a = nb::none(), "threads"_a = 0);
  m.def("noise_steps_fresh", &py_noise_steps_fresh, "latents"_a.none(), "coefficients"_a.none(),
        "seed"_a.none(), "samples"_a.none(), "draws"_a = 1, "out"_a = nb::none(), "threads"_a = 0);
  m.def("preprocess", &py_preprocess, "frame"_a.none(), "out"_a.none(), "threads"_a = 0);
  m.def("kde_log_density", &py_kde_log_density, "x"_a.none(), "support"_a.none(), "bandwidth"_a,
        "out"_a = nb::none(), "threads"_a = 0);
}
