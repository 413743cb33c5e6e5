"""FP16 variants: selection of the nodes that stay float32, and conversion."""
