// Graphs, events and errors of the CUDA runtime. PyCUDA has no graphs; the handles of its streams and events
// are compatible.
#include <mutex>
#include <unordered_map>

#include "device.cuh"

namespace leakrt {
namespace {

cudaStream_t stream_of(Handle handle) { return reinterpret_cast<cudaStream_t>(handle); }
cudaEvent_t event_of(Handle handle) { return reinterpret_cast<cudaEvent_t>(handle); }
cudaGraphExec_t graph_of(Handle handle) { return reinterpret_cast<cudaGraphExec_t>(handle); }

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string advice(cudaError_t code) {
  const int driver = driver_version();
  switch (code) {
    case cudaErrorInsufficientDriver:
      if (driver == 0) return "no NVIDIA driver here; install the driver";
      return "the NVIDIA driver supports CUDA up to " + version_text(driver) +
             ", and LeakRT was built with " + version_text(toolkit_version()) +
             "; update the driver, or build LeakRT with an older toolkit";
    case cudaErrorNoDevice:
      return "no NVIDIA GPU is visible; check CUDA_VISIBLE_DEVICES and `nvidia-smi`";
    case cudaErrorNoKernelImageForDevice:
      return "LeakRT was built for " + architectures() +
             ", which this GPU can't run; build it on this machine with "
             "-Ccmake.define.LEAKRT_CUDA_ARCHITECTURES=native";
    case cudaErrorMemoryAllocation:
      return "out of GPU memory; use a smaller batch, or end what else uses the GPU";
    default:
      return std::string(cudaGetErrorName(code)) + ", " + cudaGetErrorString(code);
  }
}

// Node counts of live graphs.
std::mutex nodes_lock;
std::unordered_map<Handle, std::size_t> nodes_of;

}  // namespace

void check_cuda(cudaError_t code, const char* doing) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // clear the error, so that the next call does not report it again
  throw CudaError(std::string(doing) + " failed: " + advice(code));
}

std::string architectures() { return LEAKRT_CUDA_ARCHITECTURES; }

int toolkit_version() { return CUDART_VERSION; }

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

void begin_capture(Handle stream) {
  check_cuda(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal),
             "beginning a CUDA graph");
}

Handle end_capture(Handle stream) {
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(stream_of(stream), &graph), "capturing a CUDA graph");
  cudaGraphExec_t executable = nullptr;
  std::size_t count = 0;
  cudaError_t code = cudaGraphGetNodes(graph, nullptr, &count);
  if (code == cudaSuccess) code = cudaGraphInstantiateWithFlags(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(code, "instantiating a CUDA graph");
  const auto handle = reinterpret_cast<Handle>(executable);
  const std::lock_guard<std::mutex> lock(nodes_lock);
  nodes_of[handle] = count;
  return handle;
}

void abandon_capture(Handle stream) noexcept {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream_of(stream), &status) == cudaSuccess &&
      status != cudaStreamCaptureStatusNone) {
    cudaGraph_t graph = nullptr;
    if (cudaStreamEndCapture(stream_of(stream), &graph) == cudaSuccess && graph != nullptr)
      cudaGraphDestroy(graph);
  }
  cudaGetLastError();
}

void launch_graph(Handle graph, Handle stream) {
  check_cuda(cudaGraphLaunch(graph_of(graph), stream_of(stream)), "launching a CUDA graph");
}

void destroy_graph(Handle graph) {
  {
    const std::lock_guard<std::mutex> lock(nodes_lock);
    nodes_of.erase(graph);
  }
  check_cuda(cudaGraphExecDestroy(graph_of(graph)), "destroying a CUDA graph");
}

std::size_t graph_nodes(Handle graph) {
  const std::lock_guard<std::mutex> lock(nodes_lock);
  const auto found = nodes_of.find(graph);
  if (found == nodes_of.end()) throw CudaError("counting a CUDA graph's nodes failed: no such graph");
  return found->second;
}

Handle create_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDefault), "making an event");
  return reinterpret_cast<Handle>(event);
}

void destroy_event(Handle event) { check_cuda(cudaEventDestroy(event_of(event)), "destroying an event"); }

void synchronize_event(Handle event) {
  check_cuda(cudaEventSynchronize(event_of(event)), "waiting for the GPU");
}

float event_milliseconds(Handle begin, Handle end) {
  float milliseconds = 0.0f;
  check_cuda(cudaEventElapsedTime(&milliseconds, event_of(begin), event_of(end)), "reading a time");
  return milliseconds;
}

void record_event(Handle event, Handle stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream_of(stream), &status), "recording an event");
  // Outside a capture this flag is an error; inside a capture, the event records no time without it.
  const unsigned flags =
      status == cudaStreamCaptureStatusActive ? cudaEventRecordExternal : cudaEventRecordDefault;
  check_cuda(cudaEventRecordWithFlags(event_of(event), stream_of(stream), flags), "recording an event");
}

}  // namespace leakrt
