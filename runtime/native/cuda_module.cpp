// leakrt._cuda: the kernels on raw device addresses and stream handles, and CUDA calls that PyCUDA lacks. See
// _cuda.pyi. Links the CUDA runtime statically and no driver, so that it can be imported on every machine.
#include "cuda_calls.hpp"
#include "kernel_bindings.hpp"

namespace leakrt {
namespace {

class DeviceLauncher {
 public:
  explicit DeviceLauncher(Address stream) : stream_(stream) {}

  template <class K>
  void run(const typename K::Params& params, const LaunchShape& shape) {
    const nb::gil_scoped_release unlocked;
    launch_on_device<K>(params, shape, stream_);
  }

 private:
  Address stream_;
};

std::vector<std::tuple<std::string, int, std::size_t, int>> py_noise_kernel_info() {
  std::vector<std::tuple<std::string, int, std::size_t, int>> rows;
  for (const KernelInfo& k : noise_kernel_info())
    rows.emplace_back(k.name, k.registers, k.local_bytes, k.threads);
  return rows;
}

void translate_cuda_error(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const CudaError& problem) {
    const nb::object type = nb::module_::import_("leakrt.core.errors").attr("BackendError");
    PyErr_SetString(type.ptr(), problem.what());
  }
}

}  // namespace
}  // namespace leakrt

NB_MODULE(_cuda, m) {
  using namespace leakrt;
  using Unlocked = nb::call_guard<nb::gil_scoped_release>;
  nb::register_exception_translator(translate_cuda_error);
  define_kernels<DeviceLauncher>(m);
  m.def("architectures", &architectures);
  m.def("toolkit_version", &toolkit_version);
  m.def("driver_version", &driver_version);
  m.def("noise_kernel_info", &py_noise_kernel_info);
  m.def("begin_capture", &begin_capture, "stream"_a, Unlocked());
  m.def("end_capture", &end_capture, "stream"_a, Unlocked());
  m.def("abandon_capture", &abandon_capture, "stream"_a, Unlocked());
  m.def("launch_graph", &launch_graph, "graph"_a, "stream"_a, Unlocked());
  m.def("destroy_graph", &destroy_graph, "graph"_a, Unlocked());
  m.def("graph_nodes", &graph_nodes, "graph"_a);
  m.def("create_event", &create_event);
  m.def("destroy_event", &destroy_event, "event"_a);
  m.def("synchronize_event", &synchronize_event, "event"_a, Unlocked());
  m.def("event_milliseconds", &event_milliseconds, "begin"_a, "end"_a);
  m.def("record_event", &record_event, "event"_a, "stream"_a, Unlocked());
}
