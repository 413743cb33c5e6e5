"""LeakRT's CUDA kernels on raw addresses, and the parts of the CUDA runtime that PyCUDA lacks.

The module is there where LeakRT was built with a CUDA toolkit; importing it needs no driver and no GPU. Addresses are
of device memory (or of mapped host memory), as integers; `stream` is a raw stream handle, such as PyCUDA's
`stream.handle`, 0 for the default stream. The context that is current in the calling thread is used. Launches return
at once, and copy what they need of NumPy arrays. Element types are "float32" or "float16". Float32 results are the
bits that `leakrt._core` gives on a CPU, but for the log-density, which agrees within 1e-11.

Raised everywhere: BackendError where CUDA fails, first of all where there is no driver; ValueError for sizes, types
and addresses that can't be meant; TypeError for a wrong array.
"""

from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

_Coefficients = npt.NDArray[np.float32]

def fill_normals(
    out: int, draws: int, steps: int, elements: int, seed: SupportsIndex, sample: SupportsIndex, stream: int = 0
) -> None:
    """Fill `out` float32 [draws, T, E] with the noise of one sample; see `core.noise.normals`."""

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
) -> None:
    """All noised steps in one launch: latents [B, E], bank float32 [draws, T, E] to out [B, draws, T, E].

    u_t = c[t, 0] z0 + c[t, 1] eps_t, computed in float32 and rounded once to the type of `out`; coefficients
    float32 [T, 2] in host memory, T at most 64.
    """

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
) -> None:
    """As `noise_steps`, with the noise of sample `samples[b]` (uint32 [B]) for latent b, drawn in registers."""

def preprocess(
    frames: Sequence[tuple[int, int, int, int]], size: int, out: int, out_type: str, stream: int = 0
) -> None:
    """Frames to out [B, 3, S, S], RGB in [-1, 1], one launch for up to 32 frames of any sizes.

    A frame is (address, height, width, bytes from one row to the next) of uint8 BGR pixels; a side has at most 2^20
    pixels. See `core.preprocess`; within 2e-6 of it.
    """

def density_workspace(batch: int, points: int) -> int:
    """Bytes of device memory that `kde_log_density` needs as its workspace."""

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
) -> None:
    """Log-density of x float32 [B, D] over support float32 [N, D] to out float64 [B]; see `core.density`."""

def architectures() -> str:
    """What the kernels were compiled for, as CMake names it: "75-real 86-real ... 120-virtual"."""

def toolkit_version() -> int:
    """Of the CUDA toolkit it was built with: 1000 major + 10 minor."""

def driver_version() -> int:
    """The CUDA version that the driver supports, likewise; 0 without a driver. Raises nothing."""

def noise_kernel_info() -> list[tuple[str, int, int, int]]:
    """The noising kernels on this GPU: name, registers and bytes of local memory of a thread, threads of a block."""

def begin_capture(stream: int) -> None:
    """What this thread launches on the stream from now on goes into a CUDA graph instead."""

def end_capture(stream: int) -> int:
    """End the capture and make the graph executable. Raises BackendError for whatever spoilt the capture."""

def abandon_capture(stream: int) -> None:
    """Leave a capture that failed, so that the stream can be used again. Raises nothing."""

def launch_graph(graph: int, stream: int) -> None:
    """Launch an executable graph."""

def destroy_graph(graph: int) -> None:
    """Free an executable graph; launches of it that are under way still end."""

def graph_nodes(graph: int) -> int:
    """How many nodes the graph was captured with."""

def create_event() -> int:
    """A raw event that keeps times. PyCUDA has events of its own, but does not give their handles."""

def destroy_event(event: int) -> None:
    """Free an event."""

def synchronize_event(event: int) -> None:
    """Wait, without the GIL, until the stream has passed the event's last record."""

def event_milliseconds(begin: int, end: int) -> float:
    """The time between the last records of two events that their streams have passed."""

def record_event(event: int, stream: int) -> None:
    """Record a raw event handle. In a capture it becomes a node that records the event in every launch of the graph
    (cudaEventRecordExternal), so that it keeps a time."""
