"""FP16 variants: which nodes stay float32, and the conversion."""
