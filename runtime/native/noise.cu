// Noising kernels; see noise_kernel.hpp.
#include "device.cuh"
#include "noise_kernel.hpp"

namespace leakrt {

#define LEAKRT_NOISE(Z, U)                             \
  LEAKRT_INSTANTIATE(NoiseKernel<Z, U, false, false>); \
  LEAKRT_INSTANTIATE(NoiseKernel<Z, U, false, true>);  \
  LEAKRT_INSTANTIATE(NoiseKernel<Z, U, true, false>);  \
  LEAKRT_INSTANTIATE(NoiseKernel<Z, U, true, true>)

LEAKRT_NOISE(float, float);
LEAKRT_NOISE(float, Half);
LEAKRT_NOISE(Half, float);
LEAKRT_NOISE(Half, Half);
LEAKRT_INSTANTIATE(NormalsKernel);

namespace {

template <class K>
KernelInfo info(const std::string& name) {
  cudaFuncAttributes found{};
  check_cuda(cudaFuncGetAttributes(&found, kernel_of<K>), "reading a kernel's attributes");
  return {name, found.numRegs, found.localSizeBytes, static_cast<int>(K::kThreads)};
}

template <class Z, class U>
void add_info(std::vector<KernelInfo>& all, const std::string& types) {
  all.push_back(info<NoiseKernel<Z, U, false, true>>("bank " + types));
  all.push_back(info<NoiseKernel<Z, U, true, true>>("fresh " + types));
}

}  // namespace

std::vector<KernelInfo> noise_kernel_info() {
  std::vector<KernelInfo> all;
  add_info<float, float>(all, "float32 -> float32");
  add_info<float, Half>(all, "float32 -> float16");
  add_info<Half, float>(all, "float16 -> float32");
  add_info<Half, Half>(all, "float16 -> float16");
  return all;
}

}  // namespace leakrt
