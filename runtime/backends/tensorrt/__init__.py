"""The `tensorrt` backend: one stream, one thread and one CUDA graph for a frame. Start reading at runner.py.

kind.py             the backend's name, its probe and its loading; imports neither TensorRT nor PyCUDA
backend.py          a runner as a backend of the Detector
runner.py           the thread that owns the GPU
ring.py             which slot is next, and which result
slots.py            how many slots, and of which batch sizes, fit into memory
slot.py             the chain: copy, preprocess, VAE encoder, noising, leak encoder, copy
buffers.py          the memory of one slot
engine.py           the interface of a compiled graph; tensorrt_engine.py implements it
cuda_device.py      the interface of ../device_memory.py, implemented with PyCUDA

The chain ran on an H100 with TensorRT 8.5.3; see docs/support.md.
"""

from __future__ import annotations

from .kind import KIND as KIND
