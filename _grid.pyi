"""The CUDA kernels' own code, run on the host thread after thread with every access to memory checked.

The functions of `leakrt._cuda` on addresses of host memory, blocking. `stream` 1 runs blocks and threads in reverse: a
result that depends on the order is a race. Slow: for tests, and for the GPU pipeline on a machine without a GPU.

Raised everywhere: RuntimeError for an address outside the buffers of the launch or not aligned, for a result written
twice or not at all; ValueError and TypeError as in `leakrt._cuda`.
"""

from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

_Coefficients = npt.NDArray[np.float32]

def fill_normals(
    out: int, draws: int, steps: int, elements: int, seed: SupportsIndex, sample: SupportsIndex, stream: int = 0
) -> None: ...
def noise_steps(
    latents: int,
    latents_type: str,
    bank: int,
    coefficients: _Coefficients,
    out: int,
    out_type: str,
    batch: int,
    draws: int,
    elements: int,
    stream: int = 0,
) -> None: ...
def noise_steps_fresh(
    latents: int,
    latents_type: str,
    coefficients: _Coefficients,
    out: int,
    out_type: str,
    batch: int,
    draws: int,
    elements: int,
    seed: SupportsIndex,
    samples: int,
    stream: int = 0,
) -> None: ...
def preprocess(
    frames: Sequence[tuple[int, int, int, int]], size: int, out: int, out_type: str, stream: int = 0
) -> None: ...
def density_workspace(batch: int, points: int) -> int: ...
def kde_log_density(
    x: int,
    batch: int,
    support: int,
    points: int,
    dimension: int,
    bandwidth: float,
    workspace: int,
    out: int,
    stream: int = 0,
) -> None: ...
def faulty(fault: str, out: int, count: int, stream: int = 0) -> None:
    """A kernel with one mistake ("gap", "race", "read outside", "write outside", "write twice", "unaligned"; "" for
    none) that fills `out` float32 [count] with 0, 1, 2 ...: what tests the checks."""

def to_half(values: npt.NDArray[np.float32], out: npt.NDArray[np.uint32]) -> None:
    """float32 [N] to the bits of float16, in `out` uint32 [N], as the kernels round on the host."""

def from_half(bits: npt.NDArray[np.uint32], out: npt.NDArray[np.float32]) -> None:
    """The bits of float16 [N] to `out` float32 [N]."""
