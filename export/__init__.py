"""The two graphs as ONNX, their parity with the network they came from, and the bundle."""
