"""TensorRT and TensorRT-RTX: the differences between versions, and what they log."""
