// Log-density kernels; see density_kernel.hpp.
#include "density_kernel.hpp"
#include "device.cuh"

namespace leakrt {

LEAKRT_INSTANTIATE(DensityKernel);
LEAKRT_INSTANTIATE(DensityMergeKernel);

}  // namespace leakrt
