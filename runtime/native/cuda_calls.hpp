// What cuda_module.cpp needs of the CUDA runtime, without its headers. Streams, events and graphs are the
// runtime's own handles as numbers. Everything throws CudaError, also where there is no driver at all.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "grid.hpp"

namespace leakrt {

// One line: what failed, why, what to do.
struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Handle = std::uintptr_t;

// Launch a kernel on a stream (0: the default one). Instantiated in noise.cu, preprocess.cu and density.cu.
template <class K>
void launch_on_device(const typename K::Params& params, const LaunchShape& shape, Handle stream);

struct KernelInfo {
  std::string name;
  int registers;            // of a thread
  std::size_t local_bytes;  // of a thread: spills and stack
  int threads;              // of a block
};

// The noising kernels as they were compiled for this device.
std::vector<KernelInfo> noise_kernel_info();

// Compute capabilities that machine code was made for, and what CMake called them.
std::string architectures();

// Versions, as 1000 major + 10 minor; the driver's is 0 without one.
int toolkit_version();
int driver_version();

// Everything launched on the stream until end_capture goes into a graph instead. Other threads are not
// affected.
void begin_capture(Handle stream);
// The executable graph. Whatever went wrong during the capture is thrown here.
Handle end_capture(Handle stream);
// Leave a capture that failed, so that the stream can be used again. Never throws.
void abandon_capture(Handle stream) noexcept;
void launch_graph(Handle graph, Handle stream);
void destroy_graph(Handle graph);
// Nodes of a graph are not kept; the count was taken when it was captured.
std::size_t graph_nodes(Handle graph);

// Events that keep times. PyCUDA has events, but does not give their handles.
Handle create_event();
void destroy_event(Handle event);
// Record an event on a stream. In a capture as an event-record node that keeps its time in every launch.
void record_event(Handle event, Handle stream);
// Wait until the stream has passed the event's last record.
void synchronize_event(Handle event);
// Milliseconds between the last records of two events that the streams have passed.
float event_milliseconds(Handle begin, Handle end);

}  // namespace leakrt
