// Preprocessing kernels; see preprocess_kernel.hpp.
#include "device.cuh"
#include "preprocess_kernel.hpp"

namespace leakrt {

LEAKRT_INSTANTIATE(PreprocessKernel<float>);
LEAKRT_INSTANTIATE(PreprocessKernel<Half>);

}  // namespace leakrt
