// Bindings that `leakrt._cuda` and `leakrt._grid` share: functions on raw addresses, launched by a Launcher
// that is constructed from `stream`. Documented in _cuda.pyi.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <exception>
#include <tuple>

#include "arguments.hpp"
#include "kernel_jobs.hpp"

namespace leakrt {

using nb::literals::operator""_a;
using Address = std::uintptr_t;

inline Element element_type(const char* name, const std::string& type) {
  if (type == "float32") return Element::kFloat32;
  if (type == "float16") return Element::kFloat16;
  refuse_value(std::string(name) + " is " + type + "; float32 or float16 is needed");
}

template <class T>
T* at(const char* name, Address address) {
  if (address == 0) refuse_value(std::string(name) + " is a null address");
  if (address % alignof(T) != 0) refuse_value(std::string(name) + " is not aligned");
  return reinterpret_cast<T*>(address);
}

inline const void* at_element(const char* name, Address address, Element type) {
  if (type == Element::kFloat16) return at<const Half>(name, address);
  return at<const float>(name, address);
}

struct Sizes {
  std::uint64_t batch, draws, elements;
};

inline NoiseJob noise_job(Address latents, const std::string& latents_type, nb::handle coefficients,
                          Address out, const std::string& out_type, const Sizes& sizes) {
  const Argument<const float> c("coefficients", coefficients, {kAny, 2});
  NoiseJob job{};
  job.latents_type = element_type("latents_type", latents_type);
  job.out_type = element_type("out_type", out_type);
  job.latents = at_element("latents", latents, job.latents_type);
  job.out = const_cast<void*>(at_element("out", out, job.out_type));
  check_size("the number of steps", c.shape(0), kMostSteps);
  job.coefficients = c.data();  // the caller's array outlives the call; a launch copies it
  job.batch = sizes.batch, job.draws = sizes.draws, job.steps = c.shape(0), job.elements = sizes.elements;
  return job;
}

template <class Launcher>
void py_fill_normals(Address out, std::uint64_t draws, std::uint64_t steps, std::uint64_t elements,
                     nb::handle seed, nb::handle sample, Address stream) {
  Launcher launch(stream);
  const std::uint64_t key = low_bits("seed", seed);
  fill_normals(at<float>("out", out), draws, steps, elements, key,
               static_cast<std::uint32_t>(low_bits("sample", sample)), launch);
}

template <class Launcher>
void py_noise_steps(Address latents, const std::string& latents_type, Address bank, nb::handle coefficients,
                    Address out, const std::string& out_type, std::uint64_t batch, std::uint64_t draws,
                    std::uint64_t elements, Address stream) {
  Launcher launch(stream);
  NoiseJob job = noise_job(latents, latents_type, coefficients, out, out_type, {batch, draws, elements});
  job.bank = at<const float>("bank", bank);
  noise_steps(job, launch);
}

template <class Launcher>
void py_noise_steps_fresh(Address latents, const std::string& latents_type, nb::handle coefficients,
                          Address out, const std::string& out_type, std::uint64_t batch, std::uint64_t draws,
                          std::uint64_t elements, nb::handle seed, Address samples, Address stream) {
  Launcher launch(stream);
  NoiseJob job = noise_job(latents, latents_type, coefficients, out, out_type, {batch, draws, elements});
  job.seed = low_bits("seed", seed);
  job.samples = at<const std::uint32_t>("samples", samples);
  noise_steps(job, launch);
}

// Address, height, width, bytes from one row to the next.
using FrameTuple = std::tuple<Address, std::int64_t, std::int64_t, std::int64_t>;

template <class Launcher>
void py_preprocess(const std::vector<FrameTuple>& frames, std::uint64_t size, Address out,
                   const std::string& out_type, Address stream) {
  Launcher launch(stream);
  std::vector<FrameJob> jobs;
  for (const auto& [pixels, height, width, stride] : frames)
    jobs.push_back({at<const std::uint8_t>("a frame", pixels), height, width, stride});
  const Element type = element_type("out_type", out_type);
  preprocess(jobs, size, const_cast<void*>(at_element("out", out, type)), type, launch);
}

template <class Launcher>
void py_kde_log_density(Address x, std::uint64_t batch, Address support, std::uint64_t points,
                        std::uint64_t dimension, double bandwidth, Address workspace, Address out,
                        Address stream) {
  Launcher launch(stream);
  kde_log_density(at<const float>("x", x), batch, at<const float>("support", support), points, dimension,
                  bandwidth, at<double>("workspace", workspace), at<double>("out", out), launch);
}

template <class Launcher>
void define_kernels(nb::module_& m) {
  m.def("fill_normals", &py_fill_normals<Launcher>, "out"_a, "draws"_a, "steps"_a, "elements"_a, "seed"_a,
        "sample"_a, "stream"_a = 0);
  m.def("noise_steps", &py_noise_steps<Launcher>, "latents"_a, "latents_type"_a, "bank"_a, "coefficients"_a,
        "out"_a, "out_type"_a, "batch"_a, "draws"_a, "elements"_a, "stream"_a = 0);
  m.def("noise_steps_fresh", &py_noise_steps_fresh<Launcher>, "latents"_a, "latents_type"_a, "coefficients"_a,
        "out"_a, "out_type"_a, "batch"_a, "draws"_a, "elements"_a, "seed"_a, "samples"_a, "stream"_a = 0);
  m.def("preprocess", &py_preprocess<Launcher>, "frames"_a, "size"_a, "out"_a, "out_type"_a, "stream"_a = 0);
  m.def("kde_log_density", &py_kde_log_density<Launcher>, "x"_a, "batch"_a, "support"_a, "points"_a,
        "dimension"_a, "bandwidth"_a, "workspace"_a, "out"_a, "stream"_a = 0);
  m.def("density_workspace", &density_workspace, "batch"_a, "points"_a);
}

}  // namespace leakrt
