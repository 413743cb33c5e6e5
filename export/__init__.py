"""Export of a trained run to a bundle: ONNX graphs, their parity check and the bundle's files."""
