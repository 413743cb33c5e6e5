"""From a bundle's ONNX graph to a compiled and checked engine."""
