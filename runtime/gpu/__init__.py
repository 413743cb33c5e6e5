"""The way of a frame on a GPU: one stream, one thread, one CUDA graph. `runner` is where to begin.

device.py       what the rest needs of a GPU; cuda_device.py has it by PyCUDA, host_device.py on host memory
engine.py       what it needs of a compiled graph; tensorrt_engine.py has it on TensorRT, host_engine.py on ONNX Runtime
buffers.py      the memory of one slot
slot.py         the chain: copy, preprocess, VAE encoder, noising, leak encoder, copy
slots.py        how many slots, and of which batch sizes, fit into memory
ring.py         which slot is next, and which result
runner.py       the thread that owns the GPU
backend.py      a running one as a backend of the Detector

cuda_device.py and tensorrt_engine.py have not run on a GPU yet.
"""
