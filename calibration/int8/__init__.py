"""INT8 variants: ranges, quantisation, layer correction, refit of the leak encoder."""
