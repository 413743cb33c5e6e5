// Launches the kernels of grid.hpp on a device.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "cuda_calls.hpp"

namespace leakrt {

// Throws CudaError "<doing> failed: ..." unless `code` is cudaSuccess.
void check_cuda(cudaError_t code, const char* doing);

template <class K>
__global__ void __launch_bounds__(K::kThreads) kernel_of(const __grid_constant__ typename K::Params params) {
  extern __shared__ double shared[];
  const Place place{blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x};
#pragma unroll
  for (int phase = 0; phase < K::kPhases; ++phase) {
    if (phase != 0) __syncthreads();  // the previous phase wrote shared memory that is read now
    K::run(params, place, phase, shared);
  }
}

template <class K>
void launch_on_device(const typename K::Params& params, const LaunchShape& shape, Handle stream) {
  const dim3 grid(shape.blocks, shape.rows, shape.layers);
  kernel_of<K><<<grid, K::kThreads, shape.shared, reinterpret_cast<cudaStream_t>(stream)>>>(params);
  check_cuda(cudaGetLastError(), "launching a kernel");
}

#define LEAKRT_INSTANTIATE(...) \
  template void launch_on_device<__VA_ARGS__>(const __VA_ARGS__::Params&, const LaunchShape&, Handle)

}  // namespace leakrt
