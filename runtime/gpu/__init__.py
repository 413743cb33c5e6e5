"""The way of a frame on a GPU: one stream, one thread, one CUDA graph. `runner` is where to begin.

device.py       what the rest needs of a GPU; cuda_device.py has it by PyCUDA, host_device.py on host memory
engine.py       what it needs of a compiled graph; host_engine.py has it on ONNX Runtime
buffers.py      the memory of one slot
slot.py         the chain: copy, preprocess, VAE encoder, noising, leak encoder, copy
slots.py        how many slots, and of which batch sizes, fit into memory
ring.py         which slot is next, and which result
runner.py       the thread that owns the GPU

No backend uses it yet: TensorRT's side of engine.py is still to be written, and cuda_device.py has not run on a GPU.
"""
