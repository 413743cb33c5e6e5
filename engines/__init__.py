"""Build, cache, transfer and inspect TensorRT 8.5 to 11 and TensorRT-RTX engines."""
