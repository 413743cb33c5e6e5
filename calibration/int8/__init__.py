"""INT8 variants: ranges, quantisation, correction of layers, refit of the leak encoder."""
