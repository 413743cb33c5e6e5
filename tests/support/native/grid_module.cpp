// leakrt._grid: the CUDA kernels on the host, thread after thread, with every access checked. For tests, and
// for the pipeline on host memory; see _grid.pyi.
#include "host_launch.hpp"
#include "kernel_bindings.hpp"

namespace leakrt {
namespace {

class HostLauncher {
 public:
  explicit HostLauncher(Address stream) : backwards_(stream == 1) {}

  template <class K>
  void run(const typename K::Params& params, const LaunchShape& shape) {
    const nb::gil_scoped_release unlocked;
    launch_on_host<K>(params, shape, backwards_);
  }

 private:
  bool backwards_;
};

// A kernel with one mistake, to test the checks themselves: out [count] gets the thread's index.
struct FaultyKernel {
  struct Params {
    float* out;
    std::uint32_t count;
    std::string fault;
  };
  static constexpr std::uint32_t kThreads = 8;
  static constexpr int kPhases = 1;

  static void run(const Params& p, const Place& place, int, void* shared) {
    const std::uint32_t i = place.block * kThreads + place.thread;
    float* last = static_cast<float*>(shared);
    if (i < p.count && !(p.fault == "gap" && i == 3)) write(p.out + i, p.fault == "race" ? *last : float(i));
    if (p.fault == "read outside" && i == 0) read(p.out + p.count);
    if (p.fault == "write outside" && i == 0) write(p.out + p.count, 1.0f);
    if (p.fault == "write twice" && i == 0) write(p.out, 1.0f);
    if (p.fault == "unaligned" && i == 0) read16(p.out + 1);
    *last = static_cast<float>(i);
  }

  template <class Visit>
  static void buffers(const Params& p, Visit&& visit) {
    visit(p.out, p.count * sizeof(float), true);
  }
};

void py_faulty(const std::string& fault, Address out, std::uint32_t count, Address stream) {
  HostLauncher(stream).run<FaultyKernel>({at<float>("out", out), count, fault},
                                         {ceil_div(count, FaultyKernel::kThreads), 1, 1, sizeof(float)});
}

void py_to_half(nb::handle values, nb::handle out) {
  const Argument<const float> from("values", values, {kAny});
  const Argument<std::uint32_t> to("out", out, {from.shape(0)});
  for (std::size_t i = 0; i < from.size(); ++i) to.data()[i] = to_half(from.data()[i]).bits;
}

void py_from_half(nb::handle bits, nb::handle out) {
  const Argument<const std::uint32_t> from("bits", bits, {kAny});
  const Argument<float> to("out", out, {from.shape(0)});
  for (std::size_t i = 0; i < from.size(); ++i)
    to.data()[i] = to_float(Half{static_cast<std::uint16_t>(from.data()[i])});
}

}  // namespace
}  // namespace leakrt

NB_MODULE(_grid, m) {
  using namespace leakrt;
  define_kernels<HostLauncher>(m);
  m.def("faulty", &py_faulty, "fault"_a, "out"_a, "count"_a, "stream"_a = 0);
  m.def("to_half", &py_to_half, "values"_a, "out"_a);
  m.def("from_half", &py_from_half, "bits"_a, "out"_a);
}
