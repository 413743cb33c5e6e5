"""The `tensorrt` backend: the whole chain on one GPU, as one CUDA graph per batch size. Start reading at runner.py.

kind.py             the backend's name, probe and loader; imports neither TensorRT nor PyCUDA
backend.py          adapts a runner to the Detector's backend interface
runner.py           the thread that owns the GPU
ring.py             assigns jobs to slots, returns results in order
slots.py            fits the number of slots and their batch sizes to GPU memory
slot.py             the chain: copy, preprocess, VAE encoder, noising, leak encoder, copy
buffers.py          the memory of one slot
engine.py           the interface of a compiled graph; tensorrt_engine.py implements it
cuda_device.py      implements the interface of ../device_memory.py with PyCUDA

docs/support.md lists what was verified on a GPU.
"""

from __future__ import annotations

from .kind import KIND as KIND
