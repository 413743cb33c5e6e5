"""The CUDA kernels' own code, run on the host thread after thread with every access to memory checked.

The functions of `leakrt._cuda` on addresses of host memory, blocking. `stream` 1 runs blocks and threads in reverse: a
result that depends on the order is a race. Slow: for tests, and for the GPU pipeline on a machine without a GPU.

Raised everywhere: RuntimeError for an address outside the buffers of the launch or not aligned, for a result written
twice or not at all; ValueError and TypeError as in `leakrt._cuda`.
"""

import numpy as np
import numpy.typing as npt

from ._cuda import density_workspace as density_workspace
from ._cuda import fill_normals as fill_normals
from ._cuda import kde_log_density as kde_log_density
from ._cuda import noise_steps as noise_steps
from ._cuda import noise_steps_fresh as noise_steps_fresh
from ._cuda import preprocess as preprocess

def faulty(fault: str, out: int, count: int, stream: int = 0) -> None:
    """A kernel with one mistake ("gap", "race", "read outside", "write outside", "write twice", "unaligned"; "" for
    none) that fills `out` float32 [count] with 0, 1, 2 ...: what tests the checks."""

def to_half(values: npt.NDArray[np.float32], out: npt.NDArray[np.uint32]) -> None:
    """float32 [N] to the bits of float16, in `out` uint32 [N], as the kernels round on the host."""

def from_half(bits: npt.NDArray[np.uint32], out: npt.NDArray[np.float32]) -> None:
    """The bits of float16 [N] to `out` float32 [N]."""
