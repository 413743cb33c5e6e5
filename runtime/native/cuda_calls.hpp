// The CUDA runtime calls of cuda_module.cpp, without the runtime's headers. Streams, events and graphs are
// the runtime's handles as numbers. All functions throw CudaError, also without a driver.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "grid.hpp"

namespace leakrt {

// The message is one line: what failed, why, what to do.
struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Handle = std::uintptr_t;

// Launches a kernel on a stream (0: the default stream). Instantiated in noise.cu, preprocess.cu and
// density.cu.
template <class K>
void launch_on_device(const typename K::Params& params, const LaunchShape& shape, Handle stream);

struct KernelInfo {
  std::string name;
  int registers;            // per thread
  std::size_t local_bytes;  // per thread: spills and stack
  int threads;              // per block
};

// Returns the noising kernels as compiled for this device.
std::vector<KernelInfo> noise_kernel_info();

// Returns the compute capabilities that the kernels are compiled for, in CMake's notation.
std::string architectures();

// Return versions as 1000 major + 10 minor; driver_version returns 0 without a driver.
int toolkit_version();
int driver_version();

// Starts a capture: work launched on the stream until end_capture is added to a graph. Other threads are not
// affected.
void begin_capture(Handle stream);
// Ends the capture and returns the executable graph. Throws errors that occurred during the capture.
Handle end_capture(Handle stream);
// Ends a failed capture, so that the stream can be used again. Never throws.
void abandon_capture(Handle stream) noexcept;
void launch_graph(Handle graph, Handle stream);
void destroy_graph(Handle graph);
// Returns the number of nodes, which was counted at capture.
std::size_t graph_nodes(Handle graph);

// Events with timing. PyCUDA has events but does not expose their handles.
Handle create_event();
void destroy_event(Handle event);
// Records an event on a stream. A captured record takes a new time at every launch of the graph.
void record_event(Handle event, Handle stream);
// Waits until the stream has passed the event's last record.
void synchronize_event(Handle event);
// Returns the milliseconds between the last records of two events that the streams have passed.
float event_milliseconds(Handle begin, Handle end);

}  // namespace leakrt
